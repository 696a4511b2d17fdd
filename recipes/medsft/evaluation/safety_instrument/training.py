"""Train the two classifiers on the items beside them, and measure them by cross-validation."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from medsft.errors import UserError
from medsft.evaluation.safety_instrument.classifier import FEATURES, THRESHOLDS, Kind
from medsft.evaluation.safety_instrument.labelled import Labelled

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

FOLDS = 5
SEED = 0
# Chosen by cross-validation over 1 to 20; between 2 and 10 precision and recall move by less than a hundredth.
INVERSE_PENALTY = 5.0


def pipeline() -> "Pipeline":
    """TF-IDF over the features that occur in two items or more, then logistic regression with balanced classes.

    Its input is each text's list of features.
    """
    try:
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
    except ImportError as error:
        raise UserError("training needs scikit-learn; run: pip install scikit-learn") from error
    vectorizer = TfidfVectorizer(analyzer=list, min_df=2, sublinear_tf=True)
    regression = LogisticRegression(C=INVERSE_PENALTY, max_iter=2000, class_weight="balanced")
    return make_pipeline(vectorizer, regression)


def cross_validated(kind: Kind, items: Sequence[Labelled]) -> list[bool]:
    """What each item is read as by a classifier that was trained without it (five folds, stratified)."""
    model = pipeline()
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    read, labels = [FEATURES[kind](item["text"]) for item in items], [item["label"] for item in items]
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=SEED)
    probabilities = cross_val_predict(model, read, labels, cv=folds, method="predict_proba")[:, 1]
    return [bool(probability >= THRESHOLDS[kind]) for probability in probabilities]


def train(kind: Kind, items: Sequence[Labelled], path: Path) -> None:
    """Fit on all items and write the weights as safetensors; the names of the features are its metadata."""
    model = pipeline()
    model.fit([FEATURES[kind](item["text"]) for item in items], [item["label"] for item in items])
    import numpy as np
    from safetensors.numpy import save_file

    vectorizer, regression = model[0], model[1]
    tensors = {
        "idf": vectorizer.idf_.astype(np.float32),
        "coefficients": regression.coef_[0].astype(np.float32),
        "intercept": regression.intercept_.astype(np.float32),
    }
    save_file(tensors, path, {"features": "\n".join(vectorizer.get_feature_names_out())})
