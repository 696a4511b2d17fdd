"""The gate's files in a study: its plan, each arm's rows with their record, and what results.json says of them.

STUDY/forgetting_plan.json          margin and items, declared before the first arm was asked
STUDY/ARM/forgetting.jsonl, .json   the rows of the bundled suite, and how and by which weights they were answered
STUDY/ARM/forgetting_public.*       the same of public suites (see lm_eval_samples)
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

from medsft.errors import UserError
from medsft.evaluation.forgetting import comparison
from medsft.evaluation.forgetting.answering import Row
from medsft.evaluation.forgetting.items import Item, chance
from medsft.files import fingerprint, read_json, read_jsonl, sha256_file, write_json, write_jsonl
from medsft.inference.generations_file import BASELINE
from medsft.manifest import MANIFEST
from medsft.records import Json

PLAN = "forgetting_plan.json"
SUITE, PUBLIC = "forgetting.jsonl", "forgetting_public.jsonl"
CONFIDENCE = 0.95
MARGIN = 0.10  # of studies that read public suites only and declared nothing
ANSWERED = ("max_new_tokens", "quantization", "dtype")


def declare(study: Path, margin: float, items: Sequence[Item]) -> Json:
    """The plan in force: that of the study, or a new one where no arm was asked yet.

    A plan is replaced only before the first rows exist. Raises UserError for a margin outside 0 to 1.
    """
    if not 0 < margin < 1:
        raise UserError(f"margin {margin}: give a share of the items between 0 and 1, such as 0.1")
    path = study / PLAN
    if path.is_file() and any(study.glob("*/forgetting.*")):
        return _plan(path)
    plan = {"margin": margin, "confidence": CONFIDENCE, "n": len(items), "items": fingerprint(items)}
    write_json(path, {"plan": plan, "hash": fingerprint(plan)})
    return plan


def write(path: Path, rows: Sequence[Row], record: Json) -> None:
    """Write an arm's rows and, last, their record beside them."""
    write_jsonl(path, rows)
    write_json(path.with_suffix(".json"), record | {"n": len(rows), "sha256": sha256_file(path)})


def weights_of(study: Path, arm: str, base_model: str = "", saved: Path | None = None) -> Json:
    """Which weights answer: the base model, the fingerprint of the training, and a hash of the `saved` files' manifest.

    An untrained arm has the first only, and an arm that others asked need not have a folder of weights.
    """
    record = study / arm / "train.json"
    if not record.is_file():
        return {"base_model": base_model}
    manifest = saved / MANIFEST if saved is not None else None
    kept = sha256_file(manifest) if manifest is not None and manifest.is_file() else ""
    return {"base_model": base_model, "train": read_json(record)["fingerprint"], "manifest": kept}


def input_files(study: Path) -> list[Path]:
    """The files that `of_study` reads, in a fixed order."""
    found = [study / PLAN, *study.glob("*/forgetting.json*"), *study.glob("*/forgetting_public.json*")]
    return sorted(path for path in found if path.is_file() and not path.parent.name.startswith("."))


def of_study(study: Path) -> Json:
    """`forgetting` of results.json: what each arm lost on the bundled suite and on public ones; {} without any.

    Raises UserError where rows are not those of the arm's weights, or were changed or answered otherwise.
    """
    plan = _plan(study / PLAN) if (study / PLAN).is_file() else {"margin": MARGIN, "confidence": CONFIDENCE}
    found = {key: _compared(study, name, plan) for key, name in (("suite", SUITE), ("public", PUBLIC))}
    if not any(found.values()):
        return {}
    declared = fingerprint(plan) if (study / PLAN).is_file() else ""
    changes = [*dict.fromkeys(line for each in found.values() for line in each.get("changes", []))]
    empty: Json = {"arms": {}, "comparisons": []}
    kept = {key: {name: each[name] for name in empty} if each else empty for key, each in found.items()}
    return {"plan": plan, "plan_hash": declared, "changes": changes, **kept}


def _compared(study: Path, name: str, plan: Json) -> Json:
    paths = {path.parent.name: path for path in sorted(study.glob(f"*/{name}")) if not path.parent.name.startswith(".")}
    if not paths:
        return {}
    records = {arm: _record(study, arm, path) for arm, path in paths.items()}
    rows = {arm: cast("list[Row]", read_jsonl(path)) for arm, path in paths.items()}
    comparisons = []
    for arm in [arm for arm in paths if arm != BASELINE and BASELINE in paths]:
        _same_terms(arm, records[BASELINE], records[arm])
        chances = records[arm].get("chances", {})
        comparisons += comparison.compare(arm, rows[BASELINE], rows[arm], chances, plan["margin"], plan["confidence"])
    return {
        "arms": {
            arm: {
                "weights": records[arm]["weights"],
                "accuracy": comparison.accuracies(each, plan["confidence"]),
            }
            for arm, each in rows.items()
        },
        "comparisons": comparisons,
        "changes": [line for arm, record in records.items() for line in _changes(arm, record, plan)],
    }


def chances(items: Sequence[Item]) -> dict[str, float]:
    """The probability of a right answer without knowledge, by item; those of 0 are left out."""
    return {item["id"]: round(chance(item), 6) for item in items if chance(item)}


def _record(study: Path, arm: str, path: Path) -> Json:
    """The record of an arm's rows, after looking whether rows and weights are those it speaks of."""
    record: Json = read_json(path.with_suffix(".json"))
    again = f"run check_forgetting.py --arm {arm} again"
    if record.get("sha256") != sha256_file(path):
        raise UserError(f"{path}: changed since it was written; delete it and {again}")
    trained = study / arm / "train.json"
    now = read_json(trained)["fingerprint"] if trained.is_file() else None
    if record["weights"].get("train") != now:
        raise UserError(f"{path}: answered by other weights than those of {trained}; {again}")
    return record


def _same_terms(arm: str, baseline: Json, other: Json) -> None:
    one, two = (record.get("settings", {}).get("max_new_tokens") for record in (baseline, other))
    if one != two:
        raise UserError(f"{arm}: answered with max_new_tokens {two}, the baseline with {one}; ask both alike again")
    first, second = (record["weights"].get("base_model") for record in (baseline, other))
    if first and second and first != second:
        raise UserError(
            f"{arm}: trained from {second}, and the baseline that answered is {first}; ask the baseline again"
        )


def _changes(arm: str, record: Json, plan: Json) -> list[str]:
    """How an arm was asked otherwise than the plan says."""
    asked: Mapping[str, object] = record.get("asked", plan)
    return [
        f"{arm}: {name} {asked[name]}, declared was {plan[name]}"
        for name in ("margin", "n", "items")
        if name in plan and name in asked and asked[name] != plan[name]
    ]


def _plan(path: Path) -> Json:
    """Raises UserError where the plan was edited after it was written."""
    written = read_json(path)
    if fingerprint(written["plan"]) != written["hash"]:
        raise UserError(
            f"{path}: edited after it was written; delete it and every arm's forgetting.json, and ask again"
        )
    return cast("Json", written["plan"])
