"""BERTScore against recorded vectors and its own library, and texts and encoders that break it."""

import math
from pathlib import Path

import pytest

from medsft.errors import UserError
from medsft.evaluation.metrics import behaviour, overlap
from medsft.evaluation.metrics import bertscore as metrics
from medsft.models.loading import resolve

MINILM = "embedded/all-MiniLM-L6-v2"
# bert_score's own three test pairs.
CANDIDATES = [
    "28-year-old chef found dead in San Francisco mall",
    "A 28-year-old chef who recently moved to San Francisco was found dead in the staircase of a local shopping"
    " center.",
    "The victim's brother said he cannot imagine anyone who would want to harm him,\"Finally, it went uphill again at"
    ' him."',
]
REFERENCES = [
    "28-Year-Old Chef Found Dead at San Francisco Mall",
    "A 28-year-old chef who had recently moved to San Francisco was found dead in the stairwell of a local mall this"
    " week.",
    "But the victim's brother says he can't think of anyone who would want to hurt him, saying, \"Things were finally"
    ' going well for him."',
]
ODD_TEXTS = ["", "   \n\t", "\u200b", "\x00\x01", "\ud800 half a pair", "😀😀", "发烧三天了", "!!!", "fever " * 2000]


@pytest.fixture(scope="module")
def encoder():
    return metrics.load_encoder(MINILM, None)


def test_bertscore_gives_the_recorded_values_whatever_the_batch(encoder):
    for batch_size in (1, 8):
        scores = metrics.bertscore(encoder, CANDIDATES, REFERENCES, batch_size)
        assert scores["bertscore_f1"] == pytest.approx([0.993573, 0.937261, 0.759823], abs=2e-6)
        assert scores["bertscore_precision"] == pytest.approx([0.993573, 0.93695, 0.765927], abs=2e-6)
        assert scores["bertscore_recall"] == pytest.approx([0.993573, 0.937573, 0.753816], abs=2e-6)


def test_bfloat16_is_taken_where_it_is_fast_and_hardly_moves_the_scores(encoder, monkeypatch):
    import torch

    monkeypatch.setattr(metrics, "prefers_bfloat16", lambda: True)
    half = metrics.in_precision(encoder, "auto", CANDIDATES, REFERENCES)
    assert half.precision == "bfloat16" and half.model.dtype == torch.bfloat16
    assert (encoder.precision, encoder.model.dtype) == ("float32", torch.float32)
    whole, rounded = (metrics.bertscore(one, CANDIDATES, REFERENCES, 8)["bertscore_f1"] for one in (encoder, half))
    assert rounded != whole and rounded == pytest.approx(whole, abs=5e-3)
    monkeypatch.setattr(metrics, "MOST_MOVED", 1e-6)
    assert metrics.in_precision(encoder, "auto", CANDIDATES, REFERENCES) is encoder
    monkeypatch.setattr(metrics, "prefers_bfloat16", lambda: False)
    assert metrics.in_precision(encoder, "auto", CANDIDATES, REFERENCES) is encoder
    assert metrics.in_precision(encoder, "bfloat16", [], []).precision == "bfloat16"


def test_bertscore_of_an_earlier_layer_and_its_hash():
    encoder = metrics.load_encoder(MINILM, 5)
    scores = metrics.bertscore(encoder, CANDIDATES, REFERENCES, 8)
    assert scores["bertscore_f1"] == pytest.approx([0.993786, 0.950004, 0.836646], abs=2e-6)
    assert scores["bertscore_precision"] == pytest.approx([0.993786, 0.951293, 0.844488], abs=2e-6)
    assert scores["bertscore_recall"] == pytest.approx([0.993786, 0.948719, 0.828948], abs=2e-6)
    assert encoder.hash.startswith(f"{MINILM}_L5_no-idf_version=")


def test_the_layer_that_bert_score_recommends_is_taken(monkeypatch, tmp_path):
    import bert_score.utils

    assert metrics.load_encoder(MINILM, None).layer == 6  # not in its list: the last one
    monkeypatch.setitem(bert_score.utils.model2layers, "known-encoder", 4)
    (tmp_path / "known-encoder").symlink_to(resolve(MINILM))
    assert metrics.load_encoder(str(tmp_path / "known-encoder"), None).layer == 4


ROBERTA = Path.home() / ".cache" / "huggingface" / "hub" / "models--roberta-large"


@pytest.mark.skipif(not ROBERTA.is_dir(), reason="roberta-large (1.4 GB) is not in the hub's cache")
def test_roberta_large_gives_the_published_values():
    """Those of bert_score's own test, of layer 17."""
    scores = metrics.bertscore(metrics.load_encoder("roberta-large", None), CANDIDATES, REFERENCES, 3)
    assert scores["bertscore_precision"] == pytest.approx([0.984330, 0.983224, 0.912039], abs=1e-5)
    assert scores["bertscore_recall"] == pytest.approx([0.982384, 0.973286, 0.920429], abs=1e-5)
    assert scores["bertscore_f1"] == pytest.approx([0.983356, 0.978230, 0.916215], abs=1e-5)


def test_bertscore_agrees_with_its_own_scorer_and_does_not_depend_on_the_other_pairs(encoder):
    from bert_score import BERTScorer

    predictions = ["Take one tablet at night.", "!", "Ok", "The knee is swollen, rest it. " * 20, *CANDIDATES]
    references = ["Zebra 77 // ???", "Your cough will pass in a week. " * 15, "; ; ;", "No.", *REFERENCES]
    scorer = BERTScorer(model_type=resolve(MINILM), num_layers=6, device=str(encoder.model.device))
    theirs = scorer.score(predictions, references, batch_size=1)[2].tolist()
    for batch_size in (1, 4):
        ours = metrics.bertscore(encoder, predictions, references, batch_size)["bertscore_f1"]
        assert ours == pytest.approx(theirs, abs=1e-5)


def test_courtesy_and_length_are_taken_out_before_the_texts_are_read(encoder):
    advice = "Rest the knee and put ice on it for two days."
    polite = f"Thank you for your query. {advice} Hope this helps."
    found = metrics.bertscore_corrected(encoder, [advice, advice + " And so on" * 30, ""], [polite, advice, advice], 8)
    plain = metrics.bertscore(encoder, [advice, advice + " And so on" * 30, ""], [polite, advice, advice], 8)
    assert {name: found[name] for name in plain} == plain
    assert found["bertscore_f1_stripped"][0] == pytest.approx(1, abs=1e-5) and plain["bertscore_f1"][0] < 0.95
    assert found["bertscore_f1_matched"][1] == pytest.approx(1, abs=1e-5) and plain["bertscore_f1"][1] < 0.9
    assert found["bertscore_f1_stripped"][2] == found["bertscore_f1_matched"][2] == 0


def test_bertscore_keeps_the_order_of_the_rows(encoder):
    predictions = CANDIDATES * 22
    references = REFERENCES * 22  # more than one call of the library
    scores = metrics.bertscore(encoder, predictions, references, 8)["bertscore_f1"]
    assert scores == pytest.approx([0.993573, 0.937261, 0.759823] * 22, abs=2e-5)


def test_a_folder_name_with_t5_in_it_is_still_the_encoder_it_holds(encoder, tmp_path):
    folder = tmp_path / "t5-looking"
    folder.symlink_to(resolve(MINILM))
    scores = metrics.bertscore(metrics.load_encoder(str(folder), None), CANDIDATES, REFERENCES, 8)["bertscore_f1"]
    assert scores == pytest.approx([0.993573, 0.937261, 0.759823], abs=2e-5)


@pytest.mark.parametrize("layer", [0, 7])
def test_a_layer_the_encoder_does_not_have_is_refused(layer):
    with pytest.raises(UserError, match=f"bert_layer {layer}: .* layers 1 to 6"):
        metrics.load_encoder(MINILM, layer)


def test_an_encoder_without_safetensors_is_refused(tmp_path):
    for file in Path(resolve(MINILM)).glob("*.*"):
        if file.suffix != ".safetensors":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(UserError, match="safetensors"):
        metrics.load_encoder(str(tmp_path), None)


@pytest.mark.parametrize(("values", "rescaled"), [([0.3, 0.65, 1.0, 0.0], [0.0, 0.5, 1.0, -0.3 / 0.7])])
def test_rescaling_sends_the_baseline_to_zero_and_keeps_one(values, rescaled):
    assert metrics.rescale(values, 0.3) == pytest.approx(rescaled)


@pytest.mark.slow
def test_odd_texts_score_finite_numbers_and_empty_ones_zero(encoder):
    references = ["I have had a fever for three days."] * len(ODD_TEXTS)
    for predictions, others in ((ODD_TEXTS, references), (references, ODD_TEXTS)):
        columns = overlap.rouge(predictions, others) | metrics.bertscore(encoder, predictions, others, 8)
        columns |= {"length_ratio": behaviour.length_ratio(predictions, others)}
        assert all(math.isfinite(value) for column in columns.values() for value in column)
        assert columns["bertscore_f1"][:2] == [0.0, 0.0]
        assert columns["rouge1"][:4] == [0.0] * 4
