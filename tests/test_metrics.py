"""ROUGE and BERTScore against published vectors, the other metrics by hand, and texts that break scorers."""

import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medsft import floors, metrics
from medsft.cli import UserError
from medsft.model import resolve

MINILM = "embedded/all-MiniLM-L6-v2"
# Two lines of google-research's rouge/testdata (Apache-2.0); the values are those of the Perl ROUGE-1.5.5.
TARGETS = [
    "ZfbCUIUuePaiLVUlCaUXxkpu XPeWing tUHfPMuZ',-Xd Y BrUgVJing M-HV.-DgdDaY.rFDJCRing Ht-LM EKBDXkME,yz'RBr q'wtion"
    " wIojNbN wL,b .a-'XdQggyFl jB-RPP'iyOIcUxer tKM L",
    "KsJdPByEtAor fE-Qg Dpdbring cw-WeFyu vC MoBL Xdn g wkvcEiGvKtion BDFhrpMtion psing sbKao Q m qiing LMmer"
    " HqqLFXe,XPY,J XsurkMer ,ed nB'wH'bWVHjWFEing tQ.saefZwJtKrTlixYpMMsJing UCAPwNHeYVjDing c T BUySKtion gMPfJpwGw"
    " p'NvxAoping eu pBwMBKV'I DNxqelhu,PHPxDEq,mtion SN",
]
PREDICTIONS = [
    "rFDJCRtion Ht-LM EKtDXkME,yz'RBr q'wer wrojNbN wL,b .a-'XdQggyFl jB-RPP'iyOIcUxi",
    "n cw-WeFyu vC MoBL Xdn g wkvcEiGvKtion BDFhrpMer pstion sbKao Q m qier LMmed HqqLFXe,XPY,J XsurkMeo ,ed"
    " nB'wH'bWVHjWFEer tQ.saefZwJtKrTlixYpMMNJtion UCAPwNHeYVjD",
]
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


@pytest.mark.parametrize(
    ("name", "row", "precision", "recall", "f_measure"),
    [
        ("rouge1", 0, 0.6875, 0.40741, 0.51163),
        ("rouge2", 0, 0.53333, 0.30769, 0.39024),
        ("rougeL", 0, 0.6875, 0.40741, 0.51163),
        ("rouge1", 1, 0.69231, 0.42857, 0.52941),
        ("rouge2", 1, 0.48, 0.29268, 0.36364),
        ("rougeL", 1, 0.69231, 0.42857, 0.52941),
    ],
)
def test_rouge_with_stemming_gives_the_published_values(name, row, precision, recall, f_measure):
    scores = metrics.rouge(PREDICTIONS, TARGETS)
    assert scores[f"{name}_precision"][row] == pytest.approx(precision, abs=1e-5)
    assert scores[f"{name}_recall"][row] == pytest.approx(recall, abs=1e-5)
    assert scores[name][row] == pytest.approx(f_measure, abs=1e-5)


@pytest.mark.parametrize(
    ("name", "row", "expected"),
    [
        ("rouge1", 0, [0.6875, 0.40741, 0.51163]),
        ("rouge2", 0, [0.53333, 0.30769, 0.39024]),
        ("rougeL", 0, [0.6875, 0.40741, 0.51163]),
        ("rouge1", 1, [0.65385, 0.40476, 0.5]),
        ("rouge2", 1, [0.48, 0.29268, 0.36364]),
        ("rougeL", 1, [0.65385, 0.40476, 0.5]),
    ],
)
def test_rouge_library_without_stemming_gives_the_published_values(name, row, expected):
    from rouge_score.rouge_scorer import RougeScorer

    assert list(RougeScorer([name]).score(TARGETS[row], PREDICTIONS[row])[name]) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("hits", "length", "expected"),
    [
        ("w0 w1 x w3 x w5 x w4 x w2", 104, (0.1017, 0.0172, 0.0678)),  # 6 words, 1 bigram, subsequence of 4
        ("w0 w1 x w3 w4 x w6 x w8 x w2", 101, (0.1217, 0.0354, 0.1043)),  # 7 words, 2 bigrams, subsequence of 6
    ],
)
def test_the_source_studys_table_follows_from_these_counts(hits, length, expected):
    prediction = " ".join((hits.split() + ["x"] * length)[:length])
    scores = metrics.rouge([prediction], [" ".join(f"w{i}" for i in range(14))])
    assert [scores[name][0] for name in metrics.ROUGE] == pytest.approx(expected, abs=5e-5)


def test_bertscore_gives_the_recorded_values_whatever_the_batch(encoder):
    for batch_size in (1, 8):
        scores = metrics.bertscore(encoder, CANDIDATES, REFERENCES, batch_size)["bertscore_f1"]
        assert scores == pytest.approx([0.993573, 0.937261, 0.759823], abs=2e-5)


def test_bertscore_of_an_earlier_layer_and_its_hash():
    encoder = metrics.load_encoder(MINILM, 5)
    scores = metrics.bertscore(encoder, CANDIDATES, REFERENCES, 8)["bertscore_f1"]
    assert scores == pytest.approx([0.993786, 0.950004, 0.836646], abs=2e-5)
    assert encoder.hash.startswith(f"{MINILM}_L5_no-idf_version=")


def test_bertscore_agrees_with_its_own_scorer_and_does_not_depend_on_the_other_pairs(encoder):
    from bert_score import BERTScorer

    predictions = ["Take one tablet at night.", "!", "Ok", "The knee is swollen, rest it. " * 20, *PREDICTIONS]
    references = ["Zebra 77 // ???", "Your cough will pass in a week. " * 15, "; ; ;", "No.", *TARGETS]
    scorer = BERTScorer(model_type=resolve(MINILM), num_layers=6, device=str(encoder.model.device))
    theirs = scorer.score(predictions, references, batch_size=1)[2].tolist()
    for batch_size in (1, 4):
        ours = metrics.bertscore(encoder, predictions, references, batch_size)["bertscore_f1"]
        assert ours == pytest.approx(theirs, abs=1e-5)


def test_bertscore_keeps_the_order_of_the_rows(encoder):
    predictions = CANDIDATES * 22
    references = REFERENCES * 22  # more than one call of the library
    scores = metrics.bertscore(encoder, predictions, references, 8)["bertscore_f1"]
    assert scores == pytest.approx([0.993573, 0.937261, 0.759823] * 22, abs=2e-5)


def test_odd_texts_score_finite_numbers_and_empty_ones_zero(encoder):
    references = ["I have had a fever for three days."] * len(ODD_TEXTS)
    for predictions, others in ((ODD_TEXTS, references), (references, ODD_TEXTS)):
        columns = metrics.rouge(predictions, others) | metrics.bertscore(encoder, predictions, others, 8)
        columns |= metrics.length_ratio(predictions, others)
        assert all(math.isfinite(value) for column in columns.values() for value in column)
        assert columns["bertscore_f1"][:2] == [0.0, 0.0]
        assert columns["rouge1"][:4] == [0.0] * 4


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


def test_length_ratio_and_end_of_turn():
    assert metrics.length_ratio(["a b c", "", "a"], ["a b", "a b", ""]) == {"length_ratio": [1.5, 0.0, 1.0]}
    assert metrics.end_of_turn([True, False]) == {"end_of_turn": [1.0, 0.0]}


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.text(max_size=60), st.text(max_size=60)), min_size=1, max_size=4))
def test_rouge_of_any_text_lies_between_zero_and_one_and_of_itself_is_whole(pairs):
    predictions, references = zip(*pairs, strict=True)
    columns = metrics.rouge(predictions, references)
    assert set(columns) == {f"{n}{part}" for n in metrics.ROUGE for part in ("", "_precision", "_recall")}
    assert all(0 <= value <= 1 for column in columns.values() for value in column)
    assert all(value in (0, 1) for value in metrics.rouge(references, references)["rouge1"])


@given(st.integers(2, 60), st.integers(0, 2**31))
def test_no_row_keeps_its_own_answer_when_shuffled(size, seed):
    partner = floors.derangement(size, seed)
    assert sorted(partner) == list(range(size))
    assert all(other != own for own, other in enumerate(partner))
    assert partner == floors.derangement(size, seed)


def test_nearest_ignores_case_and_takes_the_first_row_where_nothing_matches():
    documents = ["I have a cough and a fever and I am worried", "psoriasis on my elbow", "I have a rash, I am worried"]
    queries = ["my psoriasis", "COUGH", "nothing known", ""]
    assert floors.nearest_rows(queries, documents) == [1, 0, 0, 0]


def test_nearest_is_the_brute_force_cosine():
    documents = ["pain in the knee", "pain in the chest and arm", "knee swollen after a fall", "the the the knee"]
    queries = ["my chest pain", "swollen knee", "fall on the arm"]
    vocabulary = sorted({word for text in documents for word in text.split()})
    idf = [math.log(5 / (1 + sum(w in d.split() for d in documents))) + 1 for w in vocabulary]

    def vector(text):
        weights = [text.split().count(w) * weight for w, weight in zip(vocabulary, idf, strict=True)]
        return [weight / math.hypot(*weights) for weight in weights]

    def cosine(query, document):
        return sum(a * b for a, b in zip(vector(query), vector(document), strict=True))

    expected = [max(range(4), key=lambda row, q=q: cosine(q, documents[row])) for q in queries]
    assert floors.nearest_rows(queries, documents) == expected
