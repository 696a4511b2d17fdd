"""Whether a run is a study or a trial of the machinery, too short to rank methods: the report's first line says so."""

from medsft.records import TrainRecord
from medsft.reporting.verdict import listed
from medsft.result_records import Results
from medsft.text import count

FEW_STEPS = 100  # optimizer steps; the demo makes 12 to 65
FEW_DIALOGUES = 100  # that many show an effect of 0.28 standard deviations with 80 % power
MOST_CUT = 0.1  # share of an arm's answers


def reasons(results: Results, trained: dict[str, TrainRecord]) -> list[str]:
    """Each thing that makes this a trial, with its number; [] for a study."""
    found = []
    steps = [spent["steps"] for spent in results["cost"].values() if spent["steps"]]
    if steps and min(steps) < FEW_STEPS:
        found.append(f"{min(steps)} training steps")
    rows = results["data"]["splits"].get("train", {}).get("rows")
    seen = [read for train in trained.values() if (read := (train.get("comparable") or {}).get("rows_seen"))]
    used = min([*seen, *filter(None, [results["floor_terms"]["train_rows"]])], default=None)
    if trained and rows and used and used < rows:
        found.append(f"{count(used)} of {count(rows)} training rows (under one epoch)")
    sizes = [arm["n"] for arm in results["arms"].values()]
    if min(sizes) < FEW_DIALOGUES:
        found.append(f"{min(sizes)} test dialogues")
    cut = {
        name: 1 - ended["mean"]
        for name, arm in results["arms"].items()
        if (ended := arm["metrics"].get("end_of_turn")) and round(1 - ended["mean"], 6) > MOST_CUT
    }
    if cut:
        low, high = (f"{100 * share:.0f}" for share in (min(cut.values()), max(cut.values())))
        trained_cut = [name for name in cut if name in results["cost"]]
        kind = "arms" if trained_cut else "untrained arms, of no trained one"
        of = f"{len(cut)} {kind}" if len(cut) > 1 else next(iter(cut))
        found.append(f"answers cut at the limit ({low if low == high else f'{low} to {high}'} % in {of})")
    return found


def sentence(found: list[str]) -> str:
    """The report's first line; '' for a study."""
    return f"A trial of the machinery, no study; it ranks no method: {listed(found)}." if found else ""
