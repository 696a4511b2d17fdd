"""BERTScore F1, precision and recall of any encoder stored as safetensors; empty answers score 0.

    evaluate.load("recipes/metrics/bertscore").compute(predictions=[...], references=[...])

`per_example=True` gives one number per answer instead of the mean over answers.

Formula: P: mean over the answer's tokens of the largest cosine to a token of the reference; R: the same from the
    reference; F1 = 2 P R / (P + R). Rescaled: (F1 - b) / (1 - b), b the mean F1 of unrelated pairs, so below 0 is
    possible.
Direction: more (bertscore_f1, also with _rescaled, _stripped and _matched, bertscore_precision,
    bertscore_recall)
Range: -1 to 1
Source: Zhang et al. 2020, equation 1, without idf weights; bert_score.
"""

import evaluate

from medsft.evaluation.metrics import bertscore, modules

CITATION = """
@inproceedings{zhang2020bertscore,
  title={{BERTScore}: Evaluating Text Generation with {BERT}},
  author={Zhang, Tianyi and Kishore, Varsha and Wu, Felix and Weinberger, Kilian Q. and Artzi, Yoav},
  booktitle={International Conference on Learning Representations}, year={2020}
}
"""
INPUTS = """
predictions: answers, one text each. references: the doctors' answers, one text each.
encoder: hub id, local folder, or a loaded encoder. layer: hidden layer (default: the one that bert_score recommends for
the encoder, or the last).
baseline: the mean score of unrelated pairs, which adds `bertscore_f1_rescaled`; score.py measures it on the test rows.
corrected: adds F1 without boilerplate (`_stripped`) and with longer answers cut to the reference's length (`_matched`).
Takes twice as long.
`bertscore_hash` in the result names encoder, layer and versions.
"""


class BertScore(evaluate.Metric):
    def _info(self) -> evaluate.MetricInfo:
        return modules.info(__doc__, CITATION, INPUTS, "https://github.com/Tiiiger/bert_score")

    def _compute(
        self,
        predictions: list[str],
        references: list[str],
        per_example: bool = False,
        encoder: str | bertscore.Encoder = "embedded/all-MiniLM-L6-v2",
        layer: int | None = None,
        batch_size: int = 8,
        baseline: float | None = None,
        corrected: bool = False,
        **others: object,
    ) -> dict[str, object]:
        modules.refuse_unknown(others)
        loaded = bertscore.load_encoder(encoder, layer) if isinstance(encoder, str) else encoder
        score = bertscore.bertscore_corrected if corrected else bertscore.bertscore
        columns = score(loaded, predictions, references, batch_size)
        if baseline is not None:
            columns["bertscore_f1_rescaled"] = bertscore.rescale(columns["bertscore_f1"], baseline)
        return {**modules.mean_or_each(columns, per_example), "bertscore_hash": loaded.hash}
