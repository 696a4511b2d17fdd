"""Which metrics there are, and how score.py asks for them: each is an `evaluate` module under recipes/metrics."""

import importlib.metadata
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parents[3] / "metrics"
# Declared before any result is seen, unless score.yaml declares others: the only metrics that are tested.
PRIMARY = ("rouge1", "rouge2", "rougeL", "bertscore_f1")
# What one module or another takes besides the texts: evaluate.combine hands every option to every module.
OPTIONS = (
    "per_example",
    "stem",
    "encoder",
    "layer",
    "batch_size",
    "baseline",
    "corrected",
    "prompts",
    "stopped",
    "train",
)


@lru_cache(maxsize=32)
def load(name: str) -> Any:
    """The `evaluate` module recipes/metrics/NAME, keeping texts in memory (the default writes them to a cache)."""
    import evaluate

    return evaluate.load(str(FOLDER / name), keep_in_memory=True)


def score(name: str, predictions: Sequence[str], references: Sequence[str], **options: Any) -> dict[str, list[Any]]:
    """One list of len(predictions) values per metric of the module; what is no list (a hash) is left out."""
    if not predictions:
        return {}
    result = load(name).compute(predictions=predictions, references=references, per_example=True, **options)
    return {key: values for key, values in result.items() if isinstance(values, list)}


def mean_or_each(columns: Mapping[str, Sequence[float | None]], per_example: bool) -> dict[str, Any]:
    """The columns themselves, or the mean of each over the answers it is defined for (None where there is none)."""
    if per_example:
        return {name: [*values] for name, values in columns.items()}
    known = {name: [value for value in values if value is not None] for name, values in columns.items()}
    return {name: sum(values) / len(values) if values else None for name, values in known.items()}


def pass_over(others: Mapping[str, Any]) -> None:
    """What a module does with the options that are not its own. Raises TypeError for one that no module takes."""
    for name in others:
        if name not in OPTIONS:
            raise TypeError(f"no metric takes '{name}'; there are {', '.join(OPTIONS)}")


def versions() -> dict[str, str]:
    """Versions of the libraries that the scores depend on."""
    names = ("rouge-score", "bert-score", "sacrebleu", "nltk", "evaluate", "transformers")
    return {name: importlib.metadata.version(name) for name in names}
