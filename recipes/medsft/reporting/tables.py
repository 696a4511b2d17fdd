"""The report's tables on safety, memorization, likelihood, seeds, slices and power: rows of text for any template.

They read results.json's content and nothing else; a table without rows says why it is empty.
"""

from collections.abc import Mapping

from medsft.records import Difference, Interval
from medsft.reporting.sections import forgetting_table
from medsft.reporting.verdict import outcome
from medsft.result_records import Results
from medsft.text import PARTS, Table, change, interval, label, number, pvalue

SAFETY = ("red_flag_recall", "over_escalation", "dose_contradiction", "identity", "boilerplate", "loop")
COPYING = ("copy_8", "copy_13", "longest_copy")
LIKELIHOOD = ("bits_per_byte", "bits_per_byte_byte_weighted", "nll", "nll_token_weighted", "perplexity")
COST_LABELS = {  # keys of train.json, and how the report calls them
    "total_parameters": "parameters",
    "trainable_parameters": "trainable parameters",
    "trainable_percent": "trainable %",
    "steps": "optimizer steps",
    "best_step": "best step by dev loss",
    "tokens_seen": "tokens seen",
    "answer_tokens_seen": "answer tokens seen (these carry the loss)",
    "wall_seconds": "wall time, s",
    "tokens_per_second": "tokens per second",
    "energy_joules": "energy of the steps, J, as the device reports it",
    "energy_counted_by": "energy counted by",
    "seed": "seed",
}


def cost_labels(results: Results) -> dict[str, str]:
    """The rows of the table of costs: key and label; energy only where some device reported it."""
    measured = {key for cost in results["cost"].values() for key, value in cost.items() if value}
    return {key: text for key, text in COST_LABELS.items() if not key.startswith("energy") or key in measured}


def evaluation_tables(results: Results) -> list[Table]:
    """The folded tables behind the scores, in the order they are shown. A table of another measure is added here."""
    return [
        pairs(results),
        quality(results),
        against_naive(results),
        corrected(results),
        memorization(results),
        copying(results),
        likelihood(results),
        power(results),
        seeds(results),
        sampled(results),
        slices(results),
        forgetting_table.table(results),
    ]


def pairs(results: Results) -> Table:
    note = "One arm minus another on the same dialogues, tested like the differences from the baseline."
    empty = "There are no two trained arms."
    return _differences("Arm against arm", note, results["pairs"], results["alpha"], empty)


def quality(results: Results) -> Table:
    """Non-inferiority and equivalence by the margins of the plan."""
    rows = [
        [f"{row['arm']} − {row['baseline']}", label(row["metric"]), change(row), f"{row['margin']:g}", row["quality"]]
        for row in [*results["comparisons"], *results["pairs"]]
        if "quality" in row
    ]
    note = (
        "By the whole interval and a margin that was fixed before the run. Non-inferior: worse by less than the margin "
        "at most. Equivalent: within the margin on both sides. Inconclusive is no proof of either."
    )
    heads = ["difference", "metric", "difference of means", "margin", "quality"]
    empty = "No margin was declared for a primary metric."
    return Table("Is quality kept?", note, heads, rows, "comparison.json", empty)


def against_naive(results: Results) -> Table:
    note = (
        "Each arm minus each naive baseline on the same dialogues. The naive baselines read the rows an arm saw and "
        "stop at the arms' limit of new tokens."
    )
    if results["retrieval_comparisons"]:
        rows = [row for row in results["retrieval_comparisons"] if row["metric"] in results["primary"]]
        shown = "; ".join(f"{row['arm']} on {label(row['metric'])} {change(row)}" for row in rows)
        note += f" Against retrieval from the whole corpus, not tested: {shown}."
    rows_ = results["floor_comparisons"]
    return _differences("Arms against the naive baselines", note, rows_, results["alpha"], "Run score.py again.")


def _differences(title: str, note: str, rows: list[Difference], alpha: float, empty: str) -> Table:
    shown = [
        [f"{row['arm']} − {row['baseline']}", label(row["metric"]), str(row["n"]), change(row)]
        + [pvalue(row["p"]), pvalue(row["p_holm"]), outcome(row, alpha)]
        for row in rows
    ]
    note += f" p by Holm over all {len(rows)} rows."
    heads = ["difference", "metric", "n", "difference of means", "p", "Holm p", "shown"]
    return Table(title, note, heads, shown, "comparison.json", empty)


def corrected(results: Results) -> Table:
    """Primary metrics that are also scored without boilerplate and at matched length: the difference of each."""
    found = {(row["arm"], row["metric"]): row for row in [*results["comparisons"], *results["explored"]]}
    rows = []
    for row in results["comparisons"]:
        names = [row["metric"], *(f"{row['metric']}_{part}" for part in PARTS)]
        differences = [found.get((row["arm"], name)) for name in names]
        if any(differences[1:]):
            rows.append([row["arm"], label(row["metric"]), *map(change, differences)])
    note = (
        "Differences from the baseline: as scored, with boilerplate removed on both sides, with longer answers cut to "
        "the reference's length, and with the longer of the two cut to the shorter. A gain that shrinks here came from "
        "courtesy or length. Only the first column is tested."
    )
    heads = ["arm", "metric", "as scored", *PARTS.values()]
    return Table("Does courtesy or length explain the gain?", note, heads, rows, "comparison.json")


def safety(results: Results) -> Table:
    found = results["emergencies"]
    note = (
        "Red-flag recall: share of emergencies whose answer sends the patient to urgent care now. Over-escalation: "
        "share of the other messages whose answer does so too. Both are found by trained classifiers, not by a "
        "clinician; the next table says how often they are wrong."
    )
    if found:
        note += (
            f" Of {found['n']} test messages, {found['emergencies']} are emergencies: {found['by_rule']} by the "
            f"patient's words, {found['by_doctor']} because its doctor advised urgent care (a message can be both)."
        )
    return _by_system("The same as shares, of every system", note, SAFETY, results)


def memorization(results: Results) -> Table:
    names = ("recited", "matched", "agreement")
    rows = []
    for arm, scores in results["memorized"].items():
        against = {row["metric"]: row for row in results["memorization"] if row["arm"] == arm}
        more = against.get("matched")
        rows.append([arm, str(scores["n"]), *(_mean(scores["metrics"].get(name)) for name in names), change(more)])
    note = (
        "Each arm continues a training answer from its first 30 tokens; the next 30 greedy tokens are compared with "
        "the true ones. The baseline never saw these rows: what it continues correctly is predictable, not memorized."
    )
    heads = ["arm", "training answers", *map(label, names), "leading tokens beyond the baseline"]
    return Table("Memorization of training answers", note, heads, rows, "<arm>/memorization.jsonl")


def copying(results: Results) -> Table:
    note = (
        "Runs of words in held-out answers that also occur in one training answer that an arm saw, without "
        "boilerplate. Compare with the control, other doctors' held-out answers: doctors share phrases without copying."
    )
    return _by_system("Copies from the training answers", note, COPYING, results)


def likelihood(results: Results) -> Table:
    note = (
        "How likely each model finds the doctors' own answers, given what the patient wrote. Lower is better. Bits per "
        "byte can be compared between tokenizers; the others cannot. In a mean of answers each counts alike; over "
        "all tokens or bytes a long answer counts for more."
    )
    table = _by_system("Likelihood of the doctors' answers", note, LIKELIHOOD, results)
    counted = {
        name: str(arm["metrics"]["nll"].get("n", arm["n"]))
        for name, arm in results["arms"].items()
        if "nll" in arm["metrics"]
    }
    rows = [[row[0], counted[row[0]], *row[1:]] for row in table.rows if row[0] in counted]
    return Table(table.title, note, ["arm", "answers", *table.heads[1:]], rows, "<arm>/likelihood.jsonl")


def power(results: Results) -> Table:
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
        "Effect: mean over standard deviation of the paired differences between groups (0.2 small, 0.5 medium, 0.8 "
        "large). The last column is how many groups a new study needs to detect a true difference of this size with "
        "80 % power at this level, before any correction. Observed differences tend to be too large: plan for more."
    )
    heads = ["arm", "metric", "difference", "effect", "groups for 80 % power"]
    return Table("Effect sizes and power", note, heads, rows, "comparison.json")


def seeds(results: Results) -> Table:
    rows = [
        [row["method"], label(row["metric"]), str(row["seeds"]), change(row)]
        + [pvalue(row["p_holm"]), number(row["spread"])]
        + [", ".join(number(value, "+") for value in row["by_arm"].values())]
        for row in results["seeds"]
    ]  # fmt: skip
    note = (
        "Arms named METHOD, METHOD_seed1, ... are one method trained several times. The interval is about other seeds "
        "and other patients (Student's half-widths of seeds and of groups, added in quadrature); with two seeds it is "
        "very wide. Holm's correction is over these rows."
    )
    heads = ["method", "metric", "seeds", "difference from the baseline", "Holm p", "spread of the seeds", "each seed"]
    empty = "No method was compared over several seeds, so another seed's effect is unknown."
    return Table("Training seeds", note, heads, rows, "comparison.json", empty)


def sampled(results: Results) -> Table:
    shown = [*results["primary"], "end_of_turn", "red_flag_recall", "identity"]
    rows = [
        [arm, label(name), str(len(found["seeds"])), _mean(value := found["metrics"][name]), number(value["spread"])]
        for arm, found in results["sampled"].items()
        for name in shown
        if name in found["metrics"]
    ]  # fmt: skip
    other = "" if results["decoding"] == "sampled" else f" Everything else is about {results['decoding']} answers."
    note = f"Answers sampled once per seed.{other} The interval is about other seeds and other patients."
    heads = ["arm", "metric", "seeds", "mean", "spread of the seeds"]
    return Table(
        "Sampled answers", note, heads, rows, "<arm>/sampled/", "No answers were sampled (generate.py --do_sample)."
    )


def slices(results: Results) -> Table:
    rows = [
        [row["by"], row["slice"], row["arm"], label(row["metric"]), str(row["n"]), change(row)]
        for row in results["slices"]
    ]
    note = (
        "Arm minus baseline within parts of the test set that have ten rows or more. Explored, not tested: among so "
        "many intervals, some miss 0 by chance. Length is that of the patient's message, in thirds; the specialty is "
        "guessed from keywords."
    )
    heads = ["by", "slice", "arm", "metric", "n", "difference from the baseline"]
    return Table("Slices", note, heads, rows, "comparison.json", "No slice has ten rows, or there is only one.")


def systems(results: Results) -> dict[str, Mapping[str, Interval]]:
    """The metrics of every arm and every system without a model, by the name the tables show."""
    found: dict[str, Mapping[str, Interval]] = {name: arm["metrics"] for name, arm in results["arms"].items()}
    found |= {f"naive baseline: {name}": scores["metrics"] for name, scores in results["floors"].items()}
    found |= {f"retrieval: {name}": scores["metrics"] for name, scores in results["retrieval"].items()}
    found |= {f"control: {name}": scores["metrics"] for name, scores in results["controls"].items()}
    return found | {f"ceiling: {name}": scores["metrics"] for name, scores in results["ceiling"].items()}


def _by_system(title: str, note: str, names: tuple[str, ...], results: Results) -> Table:
    rows = [
        [name, *(_mean(metrics.get(metric)) for metric in names)]
        for name, metrics in systems(results).items()
        if any(metric in metrics for metric in names)
    ]
    return Table(title, note, ["system", *map(label, names)], rows, "<arm>/scores.json, comparison.json")


def _mean(value: Interval | None) -> str:
    return f"{number(value['mean'])} {interval(value)}" if value else "–"
