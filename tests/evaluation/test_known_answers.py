"""Studies whose truth is known, through the real scores: degraded answers, a harmed arm, arms without effect."""

import random

import pytest

from medsft.evaluation import comparisons, scoring
from medsft.evaluation.metrics import modules, overlap
from medsft.evaluation.statistics import training_seeds
from medsft.files import write_jsonl
from medsft.reporting.verdict import verdict

CHEAP = ("rouge", "behaviour", "safety")
SETTINGS = {
    "primary": ["rouge1", "rouge1_recall"],
    "resamples": 2000,
    "confidence": 0.95,
    "seed": 0,
    "safety_margin": 0.05,
    "margins": {"rouge1": 0.02},
}
LONG = 30  # words of a doctor's answer, all different


def doctor(number):
    urgent = number % 4 == 0
    words = " ".join(f"w{number}x{at}" for at in range(LONG))
    prompt = "I have crushing chest pain." if urgent else f"My toe number {number} itches."
    reference = f"Call an ambulance now. {words}" if urgent else words
    return {"id": number, "group": number // 2, "source": "made up", "prompt": prompt, "reference": reference,
            "messages": [{"role": "user", "content": prompt}]}  # fmt: skip


def lose(text, share, generator):
    """The text without a share of its words, each lost by chance."""
    return " ".join(word for word in text.split() if generator.random() >= share)


def score(folder, arms, rows):
    """Write each arm's scores as score.py does, with the metrics that need no model; the comparison of all arms."""
    references, asked = [row["reference"] for row in rows], [row["messages"] for row in rows]
    for arm, predictions in arms.items():
        columns = {}
        for name in CHEAP:
            columns |= modules.score(name, predictions, references, prompts=asked, stopped=[True] * len(rows))
        write_jsonl(folder / arm / scoring.PER_EXAMPLE, scoring.per_example(rows, columns))
    return comparisons.compare(folder, [*arms], rows, SETTINGS)


def clinicians(found, arms):
    """The verdict's paragraph for clinicians."""
    each = {arm: {"n": 120, "metrics": {"rouge1": {"mean": 0.5, "low": 0.4, "high": 0.6}}} for arm in arms}
    results = {**found, "arms": each, "primary": SETTINGS["primary"], "confidence": 0.95, "alpha": 0.05}
    return verdict(results | {"cost": {arm: {"seed": 1} for arm in arms}})[0]


@pytest.mark.slow
def test_answers_that_lost_5_20_and_40_percent_of_their_words_are_found_in_order_and_size(tmp_path):
    generator, rows = random.Random(1), [doctor(number) for number in range(120)]
    noisy = [lose(row["reference"], 0.3, generator) for row in rows]
    arms = {"baseline": noisy} | {f"lost_{s}": [lose(t, s / 100, generator) for t in noisy] for s in (5, 20, 40)}
    found = score(tmp_path, arms, rows)
    many = [doctor(number)["reference"] for number in range(3000)]
    before = [lose(text, 0.3, generator) for text in many]
    rows_of = {(row["arm"], row["metric"]): row for row in found["comparisons"]}
    sizes = []
    for share in (5, 20, 40):
        after = [lose(text, share / 100, generator) for text in before]
        old, new = (overlap.rouge(side, many) for side in (before, after))
        for metric in SETTINGS["primary"]:
            true = sum(b - a for a, b in zip(old[metric], new[metric], strict=True)) / len(many)
            row = rows_of[f"lost_{share}", metric]
            assert row["difference"] == pytest.approx(true, abs=0.15 * abs(true) + 0.003)
            assert row["low"] - 0.003 <= true <= row["high"] + 0.003 < 0.003
            assert row["p_holm"] < 0.01
        sizes.append(rows_of[f"lost_{share}", "rouge1"]["difference"])
    assert sizes == sorted(sizes, reverse=True)
    assert rows_of["lost_40", "rouge1"]["quality"] == rows_of["lost_20", "rouge1"]["quality"] == "inferior"
    words = clinicians(found, arms)
    assert all(f"lost_{share} (seed 1) against the untrained model" in words for share in (5, 20, 40))
    assert words.count("worse on ROUGE-1") >= 3 and "better on" not in words


@pytest.mark.slow
def test_a_harmed_arm_with_the_same_likeness_is_named_by_its_harms(tmp_path):
    """A fifth of the answers loop, a tenth invent a doctor, and of two emergencies one is not sent to hospital."""
    generator, rows = random.Random(2), [doctor(number) for number in range(120)]
    baseline = [lose(row["reference"].removeprefix("Call an ambulance now."), 0.3, generator) for row in rows]
    baseline = [f"Call an ambulance now. {t}" if n % 4 == 0 else t for n, t in enumerate(baseline)]
    harmed = []
    for number, text in enumerate(baseline):
        text = text.removeprefix("Call an ambulance now.") if number % 8 == 0 else text
        text = f"{text} " + "Rest it well. " * 6 if number % 20 in (1, 6, 11, 17) else text
        harmed.append(f"{text} Regards, Dr. Paula Winter" if number % 20 in (3, 13) else text)
    arms = {"baseline": baseline, "harmed": harmed}
    found = score(tmp_path, arms, rows)
    changes = {row["metric"]: row for row in found["explored"]}
    for metric, true in (("loop", 0.2), ("identity", 0.1), ("red_flag_recall", -0.5)):
        row = changes[metric]
        assert row["difference"] == pytest.approx(true)
        assert row["low"] <= true <= row["high"] and not row["low"] <= 0 <= row["high"]
    (guardrail,) = found["guardrails"]
    assert (guardrail["verdict"], guardrail["baseline_share"], guardrail["arm_share"]) == ("broken", 1, 0.5)
    words = clinicians(found, arms)
    for harm in ("loops more often", "invents identities more often", "breaks the guardrail on red-flag recall"):
        assert harm in words.split(". ")[0]


@pytest.mark.slow
def test_two_methods_without_effect_are_not_told_apart_from_the_baseline_over_three_seeds():
    """Models of one method differ by twice the error of a study: one model is often 'better', a method is not."""
    generator, rows = random.Random(3), [doctor(number) for number in range(44)]
    references, studies, one, method, covered = [row["reference"] for row in rows], 40, 0, 0, 0

    def scored(share):
        values = overlap.rouge([lose(text, share, generator) for text in references], references)["rouge1"]
        return [{"id": row["id"], "group": row["id"], "rouge1": v} for row, v in zip(rows, values, strict=True)]

    names = [f"{name}{seed}" for name in ("lora", "full") for seed in ("", "_seed_1", "_seed_2")]
    for _ in range(studies):
        arms = {"baseline": scored(0.3)}
        arms |= {name: scored(min(0.9, max(0.0, generator.gauss(0.3, 0.04)))) for name in names}
        found = training_seeds.compare_methods(arms, "baseline", ["rouge1"], 0.95)
        assert {row["method"]: row["seeds"] for row in found} == {"lora": 3, "full": 3}
        method += sum(row["p_holm"] < 0.05 for row in found)
        covered += sum(row["low"] <= 0 <= row["high"] for row in found)
        alone = comparisons.paired_tests.compare_arms(
            {name: arms[name] for name in ("baseline", "lora", "full")}, "baseline", ["rouge1"], 999, 0.95, 0
        )
        one += sum(row["p"] < 0.05 for row in alone)
    assert one > 0.2 * 2 * studies
    assert method <= 0.1 * 2 * studies and covered >= 0.9 * 2 * studies
