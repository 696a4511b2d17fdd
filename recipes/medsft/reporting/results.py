"""Arrange the files of a study as results.json. Rearranges and subtracts; it computes no score of its own."""

from typing import cast

from medsft.evaluation.metrics.modules import PRIMARY
from medsft.records import TrainRecord
from medsft.reporting.study import OFFLOAD_CHECK_OF, Study, ordered
from medsft.reporting.verdict import listed
from medsft.result_records import Arithmetic, Cost, FloorTerms, KeptPlan, LossDifference, PublishedRow, Results
from medsft.source_study import published_scores

UNLIMITED: FloorTerms = {"train_rows": None, "max_new_tokens": None, "tokenizer": None}
UNDECLARED: KeptPlan = {"plan_hash": "", "declared": "never", "changes": []}
BASELINE_ORDER = ("constant", "shuffled", "echo", "nearest")


def gather(study: Study, title: str, fingerprint: str, hourly_rate: float | None) -> Results:
    """The content of results.json, but for `verdict`, `glance`, `trial`, `tuning` and the report's own versions."""
    comparison, trained = study.comparison, study.trained()
    confidence = float(comparison.get("settings", {}).get("confidence", 0.95))
    positions = {arm.name: position for position, arm in enumerate(study.arms)}
    plan = comparison.get("plan", UNDECLARED)
    cost = {name: cost_of(train) for name, train in trained.items()}
    return {
        "title": title,
        "study": study.name,
        "arms": {arm.name: {"n": arm.scores["n"], "metrics": arm.scores["metrics"]} for arm in study.arms},
        "floors": {name: comparison["floors"][name] for name in ordered(comparison["floors"], BASELINE_ORDER)},
        "floor_terms": comparison.get("floor_terms", UNLIMITED),
        "floor_comparisons": comparison.get("floor_comparisons", []),
        "retrieval": comparison.get("retrieval", {}),
        "retrieval_comparisons": comparison.get("retrieval_comparisons", []),
        "controls": comparison.get("controls", {}),
        "pairs": comparison.get("pairs", []),
        "plan_hash": plan["plan_hash"],
        "plan": plan,
        "comparisons": sorted(comparison["comparisons"], key=lambda row: positions.get(row["arm"], len(positions))),
        "ceiling": comparison.get("ceiling", {}),
        "explored": comparison.get("explored", []),
        "seeds": comparison.get("seeds", []),
        "slices": comparison.get("slices", []),
        "memorization": comparison.get("memorization", []),
        "decoding": comparison.get("settings", {}).get("decoding", "greedy"),
        "decodings": comparison.get("decodings", []),
        "guardrails": comparison.get("guardrails", []),
        "faults": comparison.get("faults", []),
        "single_cases": comparison.get("single_cases", []),
        "emergencies": comparison.get("emergencies", {}),
        "safety_instrument": comparison.get("settings", {}).get("safety_instrument", {}),
        "completeness": comparison.get("settings", {}).get("completeness") or {},
        "memorized": {arm.name: arm.scores["memorization"] for arm in study.arms if "memorization" in arm.scores},
        "sampled": {arm.name: arm.scores["sampled"] for arm in study.arms if "sampled" in arm.scores},
        "primary": primary_metrics(study),
        "confidence": confidence,
        "alpha": round(1 - confidence, 12),  # 1 - 0.95 is a little more than 0.05
        "memory": {
            name: {"predicted": train.get("predicted_memory"), "measured": train.get("peak_memory")}
            for name, train in trained.items()
        },
        "cost": cost,
        "offload_check": {name: loss_differences(study, run) for name, run in study.offload_runs.items()},
        "data": {key: value for key, value in study.data.items() if key != "lengths"},
        "study_table": cast(
            "list[PublishedRow]",
            published_scores.study_table({arm.name: arm.scores["metrics"] for arm in study.arms}),
        ),
        "versions": {arm.name: (arm.train or arm.generation).get("versions", {}) for arm in study.arms},
        "ratings": study.ratings,
        "computed_on": computed_on(study),
        "arithmetic": arithmetic(study),
        "tuning": {},
        "trial": [],
        "fingerprint": fingerprint,
        "verdict": [],
        "glance": {},
        "price": prices(cost, hourly_rate),
    }


def computed_on(study: Study) -> list[str]:
    """'bfloat16 and q8_0 on NVIDIA H200': in what the arms answered on each device; records from before do not say."""
    known = [arm.generation for arm in study.arms if arm.generation.get("device")]
    found: dict[str, set[str]] = {}
    for record in known:
        found.setdefault(record["device"], set()).add(record["precision"])
    return [f"{listed(sorted(found[device]))} on {device}" for device in sorted(found)]


def arithmetic(study: Study) -> Arithmetic:
    """In what the arms were trained, from their options: autocast first, then the precision of the weights."""
    options = {name: train.get("settings") or {} for name, train in study.trained().items()}
    known = {name: chosen for name, chosen in options.items() if chosen.get("dtype") or chosen.get("bf16")}
    return {
        "training": {
            name: "bfloat16" if chosen.get("bf16") else "float16" if chosen.get("fp16") else str(chosen["dtype"])
            for name, chosen in known.items()
        },
        "bertscore": study.comparison.get("settings", {}).get("precision", ""),
        "processor": any(chosen.get("use_cpu") for chosen in options.values()),
    }


def cost_of(train: TrainRecord) -> Cost:
    """The part of train.json that says what the training took."""
    return cast("Cost", {key: train.get(key) for key in Cost.__annotations__})


def primary_metrics(study: Study) -> list[str]:
    """The metrics the verdict speaks about: those declared before any result is seen, as far as they were scored."""
    declared = study.comparison.get("settings", {}).get("primary", PRIMARY)
    return [metric for metric in declared if metric in study.arms[0].scores["metrics"]]


def loss_differences(study: Study, run: TrainRecord) -> list[LossDifference]:
    """Loss of an offload run beside that of `full` at the steps both logged."""
    full = study.trained().get(OFFLOAD_CHECK_OF)
    losses, logged = _losses(full["history"] if full else []), _losses(run["history"])
    return [
        {"step": step, "full": losses[step], "offload": loss, "difference": loss - losses[step]}
        for step, loss in logged.items()
        if step in losses
    ]


def prices(cost: dict[str, Cost], hourly_rate: float | None) -> dict[str, float | None]:
    """What each arm's training cost at the user's hourly rate: wall time only, without set-up and evaluation."""
    if hourly_rate is None:
        return {}
    seconds = {arm: row["wall_seconds"] for arm, row in cost.items()}
    return {arm: None if wall is None else round(hourly_rate * (wall / 3600), 4) for arm, wall in seconds.items()}


def _losses(history: list[dict[str, float]]) -> dict[int, float]:
    return {int(row["step"]): row["loss"] for row in history if row.get("loss") is not None}
