"""The keys of comparison.json and results.json: what the evaluation found, and what the report makes of it."""

from typing import NotRequired, TypedDict

from medsft.records import Difference, Interval, Json, Memory, Sampled, Summary

ALSO_TEST = "also_test"  # folder of a study with a folder for each further test set, and the arms in it


class FloorTerms(TypedDict):
    """What the naive baselines may use, as the arms: training rows, new tokens at most, and whose tokenizer counts.

    None where no arm says.
    """

    train_rows: int | None
    max_new_tokens: int | None
    tokenizer: str | None


class KeptPlan(TypedDict):
    """What became of the analysis plan: its hash ('' without one), when it was declared, and what changed since."""

    plan_hash: str
    declared: str
    changes: list[str]


class Explored(TypedDict):
    """A paired difference with its interval and no p-value: explored, not tested."""

    arm: str
    metric: str
    n: int
    difference: float
    low: float | None
    high: float | None
    effect_size: NotRequired[float | None]
    no_interval: NotRequired[str]


class SliceDifference(Explored):
    """An arm minus the baseline within one slice: `by` names the division, `slice` the part."""

    by: str
    slice: str


class SeedChange(TypedDict):
    """A method trained with several seeds minus the baseline; `spread` is the seeds' standard deviation.

    `p_holm` is adjusted over all methods and primary metrics.
    """

    method: str
    baseline: str
    metric: str
    seeds: int
    n: int
    difference: float
    low: float | None
    high: float | None
    p: float
    p_holm: float
    spread: float
    by_arm: dict[str, float]


class ShareChange(TypedDict):
    """A share of the same `n` messages in an arm minus that in the baseline."""

    difference: float
    low: float | None
    high: float | None
    baseline_share: float
    arm_share: float
    n: int
    groups: int


class Guardrail(Explored):
    """The non-inferiority rule on red-flag recall for one arm; `verdict` is kept, broken, not shown or vacuous."""

    baseline_share: float
    arm_share: float
    margin: float
    verdict: str
    groups: NotRequired[int]
    over_escalation: NotRequired[ShareChange | None]


class Emergencies(TypedDict, total=False):
    """How many of the `n` test messages are emergencies: by the patient's words, by the doctor's advice. Else empty."""

    n: int
    emergencies: int
    by_rule: int
    by_doctor: int


class MetricChange(TypedDict):
    """One metric of an ablation: the arm with the fault minus the sound arm."""

    difference: float
    low: float | None
    high: float | None
    n: int


class Slowdown(TypedDict):
    """How many times as long a training step takes, with its interval over `steps`."""

    ratio: float
    low: float
    high: float
    steps: int


class AblationRow(TypedDict):
    """What one fault of the source study changes; `speed` is None where the steps cannot be compared."""

    arm: str
    fault: str
    metrics: dict[str, MetricChange]
    speed: Slowdown | None


class SingleCase(Explored):
    """What an evaluation on one dialogue could have shown; `contrary` is the share that contradicts the mean."""

    case_low: float
    case_high: float
    contrary: float


class Comparison(TypedDict):
    """comparison.json: the naive baselines (`floors`), the ceiling, and each arm minus the baseline.

    `floor_comparisons` are each arm minus each naive baseline, `pairs` arm minus arm. `retrieval` is no naive baseline:
    it may use the whole corpus. `controls` are held-out doctors' answers to other patients.
    """

    settings: NotRequired[Json]
    scores: NotRequired[dict[str, str]]  # fingerprint of each arm's scores.json
    plan: NotRequired[KeptPlan]
    floors: dict[str, Summary]
    floor_terms: NotRequired[FloorTerms]
    floor_comparisons: NotRequired[list[Difference]]
    retrieval: NotRequired[dict[str, Summary]]
    retrieval_comparisons: NotRequired[list[Explored]]
    controls: NotRequired[dict[str, Summary]]
    pairs: NotRequired[list[Difference]]
    ceiling: NotRequired[dict[str, Summary]]
    comparisons: list[Difference]
    explored: NotRequired[list[Explored]]
    seeds: NotRequired[list[SeedChange]]
    slices: NotRequired[list[SliceDifference]]
    memorization: NotRequired[list[Explored]]
    decodings: NotRequired[list[Json]]
    guardrails: NotRequired[list[Guardrail]]
    emergencies: NotRequired[Emergencies]
    faults: NotRequired[list[AblationRow]]
    single_cases: NotRequired[list[SingleCase]]


class ArmMemory(TypedDict):
    """Peak memory of a trained arm, as the plan predicted it and as it was measured."""

    predicted: Memory | None
    measured: Memory | None


class Cost(TypedDict):
    """What one arm's training took, from its train.json; None where the record does not say."""

    total_parameters: int | None
    trainable_parameters: int | None
    trainable_percent: float | None
    steps: int | None
    best_step: int | None
    tokens_seen: int | None
    answer_tokens_seen: int | None
    wall_seconds: float | None
    tokens_per_second: float | None
    energy_joules: float | None
    energy_counted_by: str | None
    seed: int | None


class Tuning(TypedDict):
    """What finding an arm's learning rate took. `seconds`: of all rates tried; `tuned`: the arm has the chosen rate."""

    rates_tried: list[float]
    chosen: float | None
    learning_rate: float | None
    tuned: bool
    seconds: float


class Arithmetic(TypedDict):
    """The precision that each arm was trained in, of BERTScore's encoder ('' if unknown), and whether a processor did
    any of it, where the recipes choose the precision by measured speed.
    """

    training: dict[str, str]
    bertscore: str
    processor: bool


class LossDifference(TypedDict):
    """Loss of an offload run beside that of the full run at one step both logged."""

    step: int
    full: float
    offload: float
    difference: float


class PublishedRow(TypedDict):
    """One metric of the source study's Table 5 beside this run's arms (`ours`)."""

    metric: str
    label: str
    published_baseline: float
    published_finetuned: float
    published_n: int
    recomputed: list[Interval] | None
    remark: str
    ours: dict[str, Interval]


class Results(TypedDict):
    """results.json: everything the report shows, by arm. `floors` are the naive baselines.

    The keys from `forgetting` on are written by stages that not every study runs.
    """

    title: str
    study: str
    arms: dict[str, Summary]
    floors: dict[str, Summary]
    floor_terms: FloorTerms
    floor_comparisons: list[Difference]
    retrieval: dict[str, Summary]
    retrieval_comparisons: list[Explored]
    controls: dict[str, Summary]
    comparisons: list[Difference]
    ceiling: dict[str, Summary]
    explored: list[Explored]
    seeds: list[SeedChange]
    slices: list[SliceDifference]
    memorization: list[Explored]
    guardrails: list[Guardrail]
    faults: list[AblationRow]
    single_cases: list[SingleCase]
    emergencies: Emergencies
    completeness: Json  # what read the statements, and its accuracy; {} where none were scored
    memorized: dict[str, Summary]
    sampled: dict[str, Sampled]
    primary: list[str]
    confidence: float
    alpha: float
    memory: dict[str, ArmMemory]
    cost: dict[str, Cost]
    offload_check: dict[str, list[LossDifference]]
    data: Json  # data_report.json without `lengths`
    study_table: list[PublishedRow]
    versions: dict[str, dict[str, str]]
    ratings: dict[str, Json]  # review.json of each arm that people were asked about
    computed_on: list[str]
    arithmetic: Arithmetic
    tuning: dict[str, Tuning]
    trial: list[str]  # why this is a trial of the machinery; empty for a study
    fingerprint: str
    verdict: list[str]
    glance: dict[str, str]  # the report's four first lines
    price: dict[str, float | None]
    pairs: list[Difference]
    plan_hash: str
    plan: KeptPlan
    decoding: str  # of the primary scores: greedy, sampled or penalised
    decodings: list[Json]  # Difference and `decoding` of the other ways
    forgetting: NotRequired[Json]
    safety_instrument: NotRequired[Json]
