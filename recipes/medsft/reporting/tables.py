"""The report's tables on safety, memorization, likelihood, seeds, slices and power: rows of text for any template.

They read results.json's content and nothing else; a table without rows says why it is empty.
"""

from typing import Any

from medsft.text import PARTS, Table, interval, label, number

Json = dict[str, Any]
SAFETY = ("red_flag_recall", "over_escalation", "identity", "boilerplate", "loop")
COPYING = ("copy_8", "copy_13", "longest_copy")
LIKELIHOOD = ("bits_per_byte", "nll", "perplexity")
VERDICTS = {
    "kept": "kept: not worse than the margin",
    "broken": "BROKEN: worse than the baseline by more than the margin",
    "not shown": "not shown: too few emergencies to exclude such a drop",
}


def evaluation_tables(results: Json) -> list[Table]:
    """All tables of the section 'Beyond likeness', in the order they are shown."""
    return [
        corrected(results),
        safety(results),
        guardrails(results),
        memorization(results),
        copying(results),
        likelihood(results),
        power(results),
        seeds(results),
        sampled(results),
        slices(results),
    ]


def corrected(results: Json) -> Table:
    """Primary metrics that are also scored without boilerplate and at matched length: the difference of each."""
    found = {(row["arm"], row["metric"]): row for row in [*results["comparisons"], *results["explored"]]}
    rows = []
    for row in results["comparisons"]:
        names = [row["metric"], *(f"{row['metric']}_{part}" for part in PARTS)]
        differences = [found.get((row["arm"], name)) for name in names]
        if any(differences[1:]):
            rows.append([row["arm"], label(row["metric"]), *map(_difference, differences)])
    note = (
        "Differences from the baseline as scored, without boilerplate on both sides, and with longer answers cut to "
        "the reference's length. A gain that shrinks here is courtesy or length. Only the first column is tested."
    )
    heads = ["arm", "metric", "as scored", *PARTS.values()]
    return Table("Is it courtesy or length?", note, heads, rows, "comparison.json")


def safety(results: Json) -> Table:
    found = results["emergencies"]
    note = (
        "Red-flag recall: share of emergencies whose answer sends the patient to urgent care now. "
        "Over-escalation: share of "
        "the other messages answered so too. Rules over words (red_flags.yaml), no clinician's judgement."
    )
    if found:
        note += (
            f" Of {found['n']} test messages {found['emergencies']} are emergencies: {found['by_rule']} by a rule, "
            f"{found['by_doctor']} by the reference doctor's own urgency (a message can be both)."
        )
    return _by_system("Safety", note, SAFETY, results)


def guardrails(results: Json) -> Table:
    rows = [
        [
            row["arm"],
            str(row["n"]),
            number(row["baseline_share"]),
            number(row["arm_share"]),
            f"{number(row['difference'], '+')} {interval(row, '+')}",
            f"{row['margin']:g}",
            VERDICTS[row["verdict"]],
        ]
        for row in results["guardrails"]
    ]
    note = (
        "The rule was fixed before the run: red-flag recall may fall below the baseline's by less than the "
        "margin, and the "
        "whole interval (paired shares, Newcombe 1998) must say so."
    )
    heads = ["arm", "emergencies", "baseline", "arm", "difference", "margin", "guardrail"]
    empty = "No arm can be held against the baseline on an emergency."
    return Table("Guardrail: red-flag recall not below the baseline's", note, heads, rows, "comparison.json", empty)


def memorization(results: Json) -> Table:
    names = ("recited", "matched", "agreement")
    rows = []
    for arm, scores in results["memorized"].items():
        against = {row["metric"]: row for row in results["memorization"] if row["arm"] == arm}
        more = against.get("matched")
        rows.append(
            [arm, str(scores["n"])]
            + [_cell(scores["metrics"].get(name)) for name in names]
            + [f"{number(more['difference'], '+')} {interval(more, '+')}" if more else "–"]
        )
    note = (
        "Given a training dialogue and the first 30 tokens of its answer, the next 30 greedy tokens against the "
        "true ones. The "
        "baseline never saw these rows: what it continues is merely predictable."
    )
    heads = ["arm", "training answers", *(label(name) for name in names), "leading tokens more than the baseline"]
    return Table("Memorization of training answers", note, heads, rows, "<arm>/memorization.jsonl")


def copying(results: Json) -> Table:
    note = (
        "Runs of words of ordinary held-out answers that stand in one training answer, boilerplate left out. "
        "Compare with the "
        "floor 'shuffled', whose texts are other doctors' answers: doctors share phrases without copying."
    )
    return _by_system("Copies from the training answers", note, COPYING, results)


def likelihood(results: Json) -> Table:
    note = (
        "How likely each model finds the doctors' own answers, given what the patient wrote. Lower is better. "
        "Bits per byte can "
        "be compared between tokenizers; the others cannot."
    )
    table = _by_system("Likelihood of the doctors' answers", note, LIKELIHOOD, results)
    counted = {name: str(arm["metrics"]["nll"].get("n", arm["n"])) for name, arm in results["arms"].items()
               if "nll" in arm["metrics"]}  # fmt: skip
    rows = [[row[0], counted[row[0]], *row[1:]] for row in table.rows if row[0] in counted]
    return Table(table.title, note, ["arm", "answers", *table.heads[1:]], rows, "<arm>/likelihood.jsonl")


def power(results: Json) -> Table:
    rows = [
        [
            row["arm"],
            label(row["metric"]),
            number(row["difference"], "+"),
            number(row.get("effect_size"), "+"),
            f"{row['needed_groups']:,}" if row.get("needed_groups") else "–",
        ]
        for row in results["comparisons"]
        if "effect_size" in row
    ]
    note = (
        "Effect: mean over standard deviation of the paired differences between groups (0.2 small, 0.5 medium, "
        "0.8 large). The "
        "last column is how many groups a new study needs to see a true difference of the size found, with 80 % "
        "power at "
        "this level, before any correction. Found differences flatter: plan for more."
    )
    heads = ["arm", "metric", "difference", "effect", "groups for 80 % power"]
    return Table("Effect sizes and power", note, heads, rows, "comparison.json")


def seeds(results: Json) -> Table:
    rows = [
        [row["method"], label(row["metric"]), str(row["seeds"])]
        + [f"{number(row['difference'], '+')} {interval(row, '+')}", number(row["spread"])]
        + [", ".join(number(value, "+") for value in row["by_arm"].values())]
        for row in results["seeds"]
    ]  # fmt: skip
    note = (
        "Arms named METHOD, METHOD_seed1, ... are one method trained several times. The interval draws seeds and "
        "dialogues; two or "
        "three seeds still show too little of their spread."
    )
    heads = ["method", "metric", "seeds", "difference from the baseline", "spread of the seeds", "each seed"]
    empty = "Each method was trained once, so nothing is known of how another training seed would move it."
    return Table("Training seeds", note, heads, rows, "comparison.json", empty)


def sampled(results: Json) -> Table:
    shown = [*results["primary"], "end_of_turn", "red_flag_recall", "identity"]
    rows = [
        [arm, label(name), str(len(found["seeds"])), _cell(value := found["metrics"][name]), number(value["spread"])]
        for arm, found in results["sampled"].items()
        for name in shown
        if name in found["metrics"]
    ]  # fmt: skip
    note = "Answers sampled once a seed, besides the greedy ones that all else is about. The interval draws seeds too."
    heads = ["arm", "metric", "seeds", "mean", "spread of the seeds"]
    return Table(
        "Sampled answers", note, heads, rows, "<arm>/sampled/", "No answers were sampled (generate.py --do_sample)."
    )


def slices(results: Json) -> Table:
    rows = [
        [row["by"], row["slice"], row["arm"], label(row["metric"]), str(row["n"])]
        + [f"{number(row['difference'], '+')} {interval(row, '+')}"]
        for row in results["slices"]
    ]
    note = (
        "Arm minus baseline within parts of the test set of ten rows or more. Explored, not tested: some interval "
        "of so many "
        "will miss 0 by chance. Length is the patient's, in thirds; the specialty is guessed from keywords."
    )
    heads = ["by", "slice", "arm", "metric", "n", "difference from the baseline"]
    return Table("Slices", note, heads, rows, "comparison.json", "No slice has ten rows, or there is only one.")


def _by_system(title: str, note: str, names: tuple[str, ...], results: Json) -> Table:
    systems = results["arms"] | {f"floor: {name}": floor for name, floor in results["floors"].items()}
    systems |= {f"ceiling: {name}": scores for name, scores in results["ceiling"].items()}
    rows = [
        [name, *(_cell(system["metrics"].get(metric)) for metric in names)]
        for name, system in systems.items()
        if any(metric in system["metrics"] for metric in names)
    ]
    return Table(title, note, ["system", *map(label, names)], rows, "<arm>/scores.json, comparison.json")


def _difference(row: Json | None) -> str:
    return f"{number(row['difference'], '+')} {interval(row, '+')}" if row else "–"


def _cell(value: Json | None) -> str:
    return f"{number(value['mean'])} {interval(value)}" if value else "–"
