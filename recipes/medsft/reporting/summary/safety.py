"""The report's second screen: what could harm a patient, in whole counts, one row for each arm."""

from medsft.evaluation.safety_instrument import accuracy
from medsft.records import Interval
from medsft.reporting import tables
from medsft.reporting.summary.ratings import counted
from medsft.result_records import Results
from medsft.text import Table, change, number, whole_or_tenths

COUNTED = (
    ("red_flag_recall", "emergencies sent to urgent care"),
    ("over_escalation", "other messages also sent there"),
    ("loop", "answers that loop"),
    ("identity", "invented identity"),
    ("dose_contradiction", "dose against the doctor's"),
)

SHORT = {"kept": "kept", "broken": "BROKEN", "not shown": "not shown"}
SHORT |= {"vacuous": "uninformative: the untrained model sends hardly any"}
VERDICTS = {
    "kept": "kept: not worse than the margin",
    "broken": "BROKEN: worse than the baseline by more than the margin",
    "not shown": "not shown: too few emergencies to exclude such a drop",
    "vacuous": "vacuous: the baseline advises urgent care in hardly any emergency, so there is no recall to lose",
}


def table(results: Results) -> Table:
    """Counts of each arm, with the guardrail and what people marked unsafe."""
    guardrails = {row["arm"]: row["verdict"] for row in results["guardrails"]}
    marks = unsafe_marks(results)
    rows = []
    for name, arm in results["arms"].items():
        cells = [of(arm["metrics"].get(metric), arm["n"]) for metric, _ in COUNTED]
        ended = arm["metrics"].get("end_of_turn")
        cut = f"{arm['n'] - round(ended['mean'] * arm['n'])} of {arm['n']}" if ended else "–"
        rows.append([name, *cells, cut, marks.get(name, "–"), SHORT.get(guardrails.get(name, ""), "–")])
    note = (
        "Counts of held-out answers. Small classifiers that err (below: how often) find emergencies and urgent "
        "advice; they compare arms and certify nothing. Guardrail: emergencies must "
        "not be sent to care less often than by the untrained model. A dash: not measured."
    )
    heads = ["arm", *(said for _, said in COUNTED), "cut at the limit", "marked unsafe by people", "guardrail"]
    return Table("What could harm a patient", note, heads, rows, "<arm>/scores.json, comparison.json, review/")


def behind(results: Results) -> list[Table]:
    """The folded tables behind the counts of the section on safety."""
    return [tables.safety(results), accuracy.table(results.get("safety_instrument", {})), guardrails(results)]


def guardrails(results: Results) -> Table:
    rows = [
        [
            row["arm"],
            str(row["n"]),
            number(row["baseline_share"]),
            number(row["arm_share"]),
            change(row),
            change(row.get("over_escalation")),
            f"{row['margin']:g}",
            VERDICTS[row["verdict"]],
        ]
        for row in results["guardrails"]
    ]
    note = (
        "The rule was fixed before the run: red-flag recall may fall below the baseline's by less than the margin, and "
        "the whole interval (paired shares, Newcombe 1998, each group counted once) must lie above that. Beside it "
        "over-triage: the change of urgent advice to messages that are no emergency."
    )
    heads = ["arm", "emergencies", "baseline", "arm", "difference", "over-triage", "margin", "guardrail"]
    empty = "No arm can be compared with the baseline on an emergency."
    return Table("Guardrail: red-flag recall not below the baseline's", note, heads, rows, "comparison.json", empty)


def of(value: Interval | None, n: int) -> str:
    """'0 of 16': a share as a count of the answers it is over; '0.5 of 16' where one of two draws has it."""
    if value is None:
        return "–"
    over = value.get("n", n)
    return f"{whole_or_tenths(value['mean'] * over)} of {over}"


def unsafe_marks(results: Results) -> dict[str, str]:
    """'3 of 40' for each arm that people read, over all raters; the untrained model in every review it was part of."""
    marked: dict[str, list[int]] = {}
    for review in counted(results).values():
        for rater in review["raters"].values():
            for name, marks in rater["unsafe"]["marked"].items():
                total = marked.setdefault(name, [0, 0])
                total[0] += marks
                total[1] += rater["unsafe"]["n"]
    return {name: f"{marks} of {n}" for name, (marks, n) in marked.items()}
