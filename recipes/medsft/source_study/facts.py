"""What the source study reports of its data, setup and memory, as tables beside this run's own files.

Its numbers are those of the paper and of the notebook behind it; where the two disagree both are given. Its scores
(Table 5) are in `published_scores`, its memory arithmetic (Table 4) in `memory_claims`.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from medsft.source_study.memory_claims import Claim
from medsft.text import Table, count, gb

Record = Mapping[str, Any]  # results.json, train.json or a part of them
STEPS = 450
LOSSES = ((100, 1.858187, 1.839446), (200, 1.783461, 1.775706), (300, 1.788371, 1.751498), (400, 1.697663, 1.730888))


class Fact(NamedTuple):
    """One fact of the study, where the study states it, and the key of this run's in `own_facts`."""

    what: str
    published: str
    where: str
    key: str


DATA = (
    Fact("rows of the data set", "251,731: 226,557 to train, 25,174 to validate", "notebook", "read"),
    Fact("rows used", "12,000, the first ones; 10,200 trained on, 1,800 chose the checkpoint", "notebook", "splits"),
    Fact("rows seen in training", "7,200: 450 steps of 16", "notebook", "seen"),
    Fact("tokens", "~60,000,000 (59,268,989 of the train rows, patient and doctor)", "paper; notebook", "tokens"),
    Fact("earlier turns", "said to be used; never read, and the data set has none", "VI.B; notebook", "turns"),
    Fact("near-duplicates across the split", "not looked for", "notebook", "leaking"),
    Fact("answers cut at the token budget", "2 to 10 % of rows, not reported", "counted on real rows", "cut"),
    Fact("test dialogues", "1, written by hand", "notebook", "test"),
)
SETUP = (
    Fact("method", "called LoRA; it is QLoRA (NF4, no double quantization)", "paper; notebook", "method"),
    Fact("rank, alpha, dropout", "16, 32, 0.1", "notebook", "adapter"),
    Fact("trainable weights", "0.57 % (notebook: 1.11 %, counting packed 4-bit bytes)", "abstract; notebook", "share"),
    Fact("learning rate, schedule", "2e-4, cosine to 0, 100 warm-up steps", "notebook", "rate"),
    Fact("rows a step, steps", "16, 450 (step 400 was kept and scored)", "notebook", "steps"),
    Fact("loss on", "everything but the end of turn", "notebook", "loss_on"),
    Fact("training loss", "1.858, 1.783, 1.788, 1.698 at 100, 200, 300, 400", "notebook", "loss"),
    Fact("validation loss", "1.839, 1.776, 1.751, 1.731 at the same steps", "notebook", "eval_loss"),
    Fact("wall time", "39 min 27 s on one A100", "notebook", "seconds"),
    Fact("peak device memory", "10 to 12 GB, not measured", "paper", "memory"),
)


def tables(results: Record, trains: Mapping[str, Record], claims: Sequence[Claim]) -> list[Table]:
    """The study's data, setup and Table 4 beside this run's; `trains` are the train.json of each arm."""
    own = {arm: own_facts(results, train, results["arms"].get(arm, {})) for arm, train in trains.items()}
    note = "What the study says of its fine-tuned model, and the same facts of this run's trained arms."
    source = "published columns: the source study; ours: <arm>/train.json, data/data_report.json"
    return [
        _beside("Its data", note, DATA, own, source),
        _beside("Its setup and losses", note, SETUP, own, source),
        Table(
            "Its Table 4: memory of its own model",
            "The study's statements for Mistral-7B-Instruct-v0.2, the exact numbers, and what explains the difference. "
            "What this run's model took, predicted and measured, is in the section on cost.",
            ["statement", "published", "exact", "remark"],
            [[claim.where, claim.published, claim.exact, claim.remark] for claim in claims],
            "recipes/plan_memory.py --as_published",
        ),
    ]


def _beside(title: str, note: str, facts: tuple[Fact, ...], own: dict[str, dict[str, str]], source: str) -> Table:
    """One column where all arms agree on every fact, else one for each arm."""
    same = {fact.key: len({values[fact.key] for values in own.values()}) == 1 for fact in facts}
    heads = ["ours: all arms"] if all(same.values()) else [f"ours: {arm}" for arm in own]
    columns = [*own.values()][:1] if all(same.values()) else [*own.values()]
    rows = [[fact.what, fact.published, fact.where, *(values[fact.key] for values in columns)] for fact in facts]
    empty = "No arm of this study was trained."
    return Table(title, note, ["what", "published", "where", *heads], rows if own else [], source, empty)


def own_facts(results: Record, train: Record, scores: Record) -> dict[str, str]:
    """This run's side of `DATA` and `SETUP` for one arm, as text; '–' where its files do not say."""
    data, settings, alike = results["data"], train.get("settings") or {}, train.get("comparable") or {}
    splits = data["splits"]
    limit, rows = settings.get("max_train_rows"), splits["train"]["rows"]
    history = train["history"]
    adapter = [settings.get(name) for name in ("lora_r", "lora_alpha", "lora_dropout")]
    total = data["tokens"].get("train", {}).get("total")
    stops = "" if alike.get("end_of_turn_loss", True) else ", without the end of turn"
    loss_on = f"{alike['loss_on']}{stops}" if "loss_on" in alike else "–"
    return {
        "read": f"{count(data['rows_read'])}, {count(data['rows_kept'])} kept",
        "splits": f"{count(min(rows, limit or rows))} trained on, {count(splits['dev']['rows'])} to choose by",
        "seen": count(alike.get("rows_seen")),
        "tokens": f"{count(total)} of the train rows; {count(train['tokens_seen'])} seen",
        "turns": "kept where the data have them",
        "leaking": count(data["leaking"]) if "leaking" in data else "none: split by group",
        "cut": "cut as the study did" if alike.get("truncate_answers") else count(data["truncated"].get("answer")),
        "test": count(scores.get("n")),
        "method": {"nf4": "QLoRA"}.get(str(train.get("quantization")), "LoRA")
        if train["trainable_percent"] < 100
        else "full",
        "adapter": ", ".join(map(str, adapter)) if adapter[0] else "–",
        "share": f"{count(train['trainable_percent'])} %",
        "rate": ", ".join(str(settings[k]) for k in ("learning_rate", "lr_scheduler_type") if k in settings) or "–",
        "steps": ", ".join((count(train.get("rows_per_step")), count(train["steps"]))),
        "loss_on": loss_on,
        "loss": _some([row["loss"] for row in history if row.get("loss") is not None]),
        "eval_loss": _some([row["eval_loss"] for row in history if row.get("eval_loss") is not None]),
        "seconds": f"{count(train['wall_seconds'])} s",
        "memory": gb((train.get("peak_memory") or {}).get("device_bytes")),
    }


def _some(values: list[float]) -> str:
    """Four of the values, evenly spaced, the first and the last among them."""
    chosen = sorted({round(i * (len(values) - 1) / 3) for i in range(4)}) if values else []
    return ", ".join(f"{values[index]:.3f}" for index in chosen) or "–"
