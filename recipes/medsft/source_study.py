"""What the source study reports of its setup and memory, as tables beside this run's own files.

Its numbers are those of the paper and of the notebook behind it; where the two disagree both are given. Its scores are
in `published`, its memory arithmetic in `published_memory`.
"""

from typing import Any, NamedTuple

from medsft.formats import count, gb
from medsft.report_tables import Table

Json = dict[str, Any]


class Setup(NamedTuple):
    """One fact of the study's setup, where it stands, and the key of `own_setup` that is this run's."""

    what: str
    published: str
    where: str
    key: str


SETUP = (
    Setup("trainable weights, %", "0.57 (notebook: 1.11)", "abstract; the notebook counts packed 4-bit bytes", "share"),
    Setup("training rows", "10,200, of which 7,200 were seen", "notebook: 450 steps of 16", "rows"),
    Setup("optimizer steps", "450 (step 400 was kept and scored)", "notebook", "steps"),
    Setup("training loss, first and last", "1.86 to 1.70, template and question included", "paper, Figure 1", "loss"),
    Setup("wall time", "39 min 27 s on one A100", "notebook", "seconds"),
    Setup("peak device memory", "10 to 12 GB, not measured", "paper", "memory"),
    Setup("test dialogues", "1, written by hand", "notebook", "test"),
)


def tables(results: Json, trains: dict[str, Json], claims: list[Any]) -> list[Table]:
    """The study's setup and its Table 4 beside this run's; `trains` are train.json by arm, `claims` published."""
    own = {arm: own_setup(results, train, results["arms"].get(arm, {})) for arm, train in trains.items()}
    rows = [[row.what, row.published, row.where, *(facts[row.key] for facts in own.values())] for row in SETUP]
    memory = [[claim.where, claim.published, claim.exact, claim.remark] for claim in claims]
    return [
        Table(
            "Setup",
            "What the study reports of its fine-tuned model, and the same facts of this run's trained arms.",
            ["", "published", "where", *(f"ours: {arm}" for arm in own)],
            rows if own else [],
            "published columns: the source study; ours: <arm>/train.json, data/data_report.json",
            "No arm of this study was trained.",
        ),
        Table(
            "Its Table 4: memory of its own model",
            "The study's statements for Mistral-7B-Instruct-v0.2, the exact numbers, and what explains the difference. "
            "What this run's model took, predicted and measured, is in the section on cost.",
            ["statement", "published", "exact", "remark"],
            memory,
            "recipes/plan_memory.py --as_published",
        ),
    ]


def own_setup(results: Json, train: Json, scores: Json) -> dict[str, str]:
    """This run's side of `SETUP` for one arm, as text."""
    losses = [row["loss"] for row in train["history"] if row.get("loss") is not None]
    limit = (train.get("settings") or {}).get("max_train_rows")
    rows = results["data"]["splits"]["train"]["rows"]
    return {
        "share": count(train["trainable_percent"]),
        "rows": count(min(rows, limit or rows)),
        "steps": count(train["steps"]),
        "loss": f"{losses[0]:.2f} to {losses[-1]:.2f}, answers only" if losses else "–",
        "seconds": f"{count(train['wall_seconds'])} s",
        "memory": gb((train.get("peak_memory") or {}).get("device_bytes")),
        "test": count(scores.get("n")),
    }
