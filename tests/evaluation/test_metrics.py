"""The `evaluate` modules: published values to the digits given, offline, and alone or combined."""

import ast
import re
from pathlib import Path

import evaluate
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import RECIPES
from medsft.evaluation.metrics import bertscore, directions, modules, overlap
from medsft.models import embedded

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
# sacrebleu's README
SYSTEM = ["The dog bit the man.", "It wasn't surprising.", "The man had just bitten him."]
SYSTEM_REFERENCES = [
    ["The dog bit the man.", "The dog had bit the man."],
    ["It was not unexpected.", "No one was surprised."],
    ["The man bit him first.", "The man had bitten the dog."],
]
MODULES = sorted(path.name for path in (RECIPES / "metrics").iterdir() if path.is_dir() and path.name != "__pycache__")
NEEDS = {"copying": {"train": SYSTEM}, "safety": {"prompts": SYSTEM[:2]}}
OPTIONS = {
    "prompts": ["I have chest pain.", [{"role": "user", "content": "A sore toe."}], "A cough."],
    "train": SYSTEM,
    "stopped": [True] * 3,
}


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
    scores = overlap.rouge(PREDICTIONS, TARGETS)
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
def test_rouge_without_stemming_gives_the_published_values(name, row, expected):
    scores = evaluate.load("recipes/metrics/rouge").compute(
        predictions=PREDICTIONS, references=TARGETS, per_example=True, stem=False
    )
    found = [scores[f"{name}{part}"][row] for part in ("_precision", "_recall", "")]
    assert found == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("hits", "length", "expected"),
    [
        ("w0 w1 x w3 x w5 x w4 x w2", 104, (0.1017, 0.0172, 0.0678)),  # 6 words, 1 bigram, subsequence of 4
        ("w0 w1 x w3 w4 x w6 x w8 x w2", 101, (0.1217, 0.0354, 0.1043)),  # 7 words, 2 bigrams, subsequence of 6
    ],
)
def test_the_source_studys_table_follows_from_these_counts(hits, length, expected):
    prediction = " ".join((hits.split() + ["x"] * length)[:length])
    scores = overlap.rouge([prediction], [" ".join(f"w{i}" for i in range(14))])
    assert [scores[name][0] for name in overlap.CORRECTED] == pytest.approx(expected, abs=5e-5)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.text(max_size=60), st.text(max_size=60)), min_size=1, max_size=4))
def test_rouge_of_any_text_lies_between_zero_and_one_and_of_itself_is_whole(pairs):
    predictions, references = zip(*pairs, strict=True)
    columns = overlap.rouge(predictions, references)
    assert set(columns) == {f"{n}{part}" for n in overlap.ROUGE for part in ("", "_precision", "_recall")}
    assert all(0 <= value <= 1 for column in columns.values() for value in column)
    assert all(value in (0, 1) for value in overlap.rouge(references, references)["rouge1"])


def test_sacrebleus_own_example():
    bleu = evaluate.load("recipes/metrics/bleu").compute(predictions=SYSTEM, references=SYSTEM_REFERENCES)
    assert round(bleu["bleu"], 2) == 48.53
    assert [round(value, 1) for value in bleu["bleu_precisions"]] == [82.4, 50.0, 45.5, 37.5]
    assert round(bleu["bleu_brevity_penalty"], 3) == 0.943
    assert bleu["bleu_signature"].startswith("nrefs:2|case:mixed|eff:no|tok:13a|smooth:exp|version:2")
    chrf = evaluate.load("recipes/metrics/chrf").compute(predictions=SYSTEM, references=SYSTEM_REFERENCES)
    assert round(chrf["chrf"], 2) == 59.73


def test_meteors_own_example():
    """The value of NLTK's documentation; no synonym takes part in it."""
    reference = "It is a guide to action that ensures that the military will forever heed Party commands"
    prediction = "It is a guide to action which ensures that the military always obeys the commands of the party"
    found = evaluate.load("recipes/metrics/meteor").compute(predictions=[prediction, ""], references=[reference] * 2)
    assert round(2 * found["meteor"], 4) == 0.6944


@pytest.mark.parametrize("name", MODULES)
def test_every_module_cites_its_source_and_scores_empty_answers(name):
    module = evaluate.load(f"recipes/metrics/{name}")
    assert "@" in module.citation
    assert "title=" in module.citation
    assert "predictions" in module.inputs_description
    empty = module.compute(predictions=["", " "], references=["Rest.", "Go."], per_example=True, **NEEDS.get(name, {}))
    columns = [values for values in empty.values() if isinstance(values, list)]
    assert columns
    assert all(len(values) == 2 for values in columns)
    assert modules.names() == MODULES


def test_all_modules_feed_combine_and_give_what_each_gives_alone():
    texts = {"predictions": SYSTEM, "references": [r[0] for r in SYSTEM_REFERENCES]}
    together = evaluate.combine([f"recipes/metrics/{name}" for name in MODULES]).compute(**texts, **OPTIONS)
    alone = [evaluate.load(f"recipes/metrics/{name}").compute(**texts, **OPTIONS) for name in MODULES]
    assert together == {key: value for found in alone for key, value in found.items()}
    assert len(together) == sum(map(len, alone)) > 40
    with pytest.raises(TypeError, match="no metric takes 'stemm'"):
        modules.load("rouge").compute(**texts, stemm=True)


def test_per_example_values_average_to_the_modules_own():
    texts = {"predictions": SYSTEM, "references": [r[0] for r in SYSTEM_REFERENCES]}
    each = modules.score("rouge", texts["predictions"], texts["references"])
    whole = modules.load("rouge").compute(**texts)
    assert {name: sum(values) / 3 for name, values in each.items()} == pytest.approx(whole)


def test_courtesy_and_length_buy_nothing():
    advice = "Rest the knee and put ice on it for two days. Come back when the swelling is not better by then."
    courtesy = " Thank you for your query. Hope this helps. Wishing you good health."
    found = overlap.rouge_corrected([advice + courtesy, advice + " and so on" * 40], [advice + courtesy, advice])
    assert found["rouge1_stripped"][0] == 1
    assert found["rouge1_matched"][1] == 1
    assert overlap.rouge([advice + " and so on" * 40], [advice])["rouge1"][0] < 0.5
    bought = overlap.rouge([courtesy], [advice + courtesy])["rouge1"][0]
    assert bought > 0.3
    assert overlap.rouge_corrected([courtesy], [advice + courtesy])["rouge1_stripped"][0] == 0


def test_a_shorter_answer_loses_nothing_where_both_sides_are_cut():
    reference = "Rest the knee and put ice on it for two days"
    found = overlap.rouge_corrected(["Rest the knee and put ice", reference + " and walk a little"], [reference] * 2)
    assert found["rouge1_equal"] == [1, 1]
    assert found["rouge1_matched"][0] < 0.8 and found["rouge1_matched"][1] == 1


def header(module):
    """The lines of a metric's file that say what it is, by their first word."""
    text = re.sub(r"\n {4}(?=\S)", " ", ast.get_docstring(ast.parse(Path(module).read_text(encoding="utf-8"))))
    return dict(
        line.split(": ", 1) for line in text.splitlines() if re.match(r"(Formula|Direction|Range|Source): ", line)
    )


def named(line, metric):
    """The parts of a line such as 'more (a, b); less (c)' that name a metric, or a line without names."""
    parts = [re.fullmatch(r"([^(]+?)(?: \((.*)\))?\.?", part) for part in line.split("; ")]
    hits = [part[1] for part in parts if part[2] is None or re.search(rf"\b{re.escape(metric)}\b", part[2])]
    return hits or [
        part[1] for part in parts if any(metric.startswith(f"{name}_") for name in re.split(r"[ ,;]+", part[2]))
    ]


LIBRARY = RECIPES / "medsft" / "evaluation"
NOT_OF_TEXTS = {
    LIBRARY / "likelihood.py": (
        "nll",
        "nll_token_weighted",
        "perplexity",
        "bits_per_byte",
        "bits_per_byte_byte_weighted",
    ),
    LIBRARY / "memorization.py": ("recited", "matched", "agreement"),
    LIBRARY / "metrics" / "corpus.py": ("corpus_bleu", "length_ratio_of_means"),
}


@pytest.mark.parametrize("name", MODULES)
def test_a_metrics_file_states_its_formula_direction_range_and_source(name):
    found = header(RECIPES / "metrics" / name / f"{name}.py")
    assert set(found) == {"Formula", "Direction", "Range", "Source"}
    odd = ["", "Rest.", "Thank you. " * 9, "Dr. Ann Lee: take 500 mg of ibuprofen " * 4]
    options = {"prompts": ["Chest pain.", "A cough.", "", "x"], "stopped": [True] * 4, "train": odd, "corrected": True}
    columns = modules.score(name, odd, ["Take 50 mg of ibuprofen twice a day, and rest in bed."] * 4, **options)
    assert columns
    for metric, values in columns.items():
        (way,) = named(found["Direction"], metric)
        assert {"more": 1, "less": -1, "neither": 0}[way] == directions.direction(metric)
        (span,) = named(found["Range"], metric)
        ends = re.fullmatch(r"(-?\d+) to (\d+)|(0) and up|any", span)
        low, high = float(ends[1] or ends[3] or "-inf"), float(ends[2] or "inf")
        assert all(value is None or low - 1e-6 <= value <= high + 1e-6 for value in values)


@pytest.mark.parametrize("path", NOT_OF_TEXTS, ids=lambda path: path.stem)
def test_a_metric_that_is_no_module_states_them_too(path):
    found = header(path)
    assert set(found) == {"Formula", "Direction", "Range", "Source"}
    for metric in NOT_OF_TEXTS[path]:
        assert metric in found["Formula"] and named(found["Range"], metric)
        (way,) = named(found["Direction"], metric)
        assert {"more": 1, "less": -1, "neither": 0}[way] == directions.direction(metric)


@pytest.mark.slow
def test_processes_side_by_side_give_the_same_columns(monkeypatch):
    texts = [f"Take {n} tablets of paracetamol. Drink water, and see a doctor after {n} days." for n in range(12)]
    encoder = bertscore.load_encoder(embedded.MINILM, None)
    options = {"prompts": texts, "stopped": [True] * 12, "train": texts[:3], "encoder": encoder,
               "batch_size": 8, "corrected": True}  # fmt: skip
    alone = modules.score_all(texts, texts[::-1], options)
    monkeypatch.setattr(modules, "PROCESSES_PAY", 2)
    monkeypatch.setattr(modules.os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    started = []
    context = modules.multiprocessing.get_context("spawn")
    pool = context.Pool
    monkeypatch.setattr(type(context), "Pool", lambda _, *a, **k: started.append(a) or pool(*a, **k))
    together = modules.score_all(texts, texts[::-1], options)
    assert started == [(2,)]
    assert together == alone and list(together) == list(alone)
