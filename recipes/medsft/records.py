"""The shapes of the files that stages hand to each other, as dictionaries with named keys.

A file is written by one stage and read by others, in other rooms: its shape is told here once. Sizes are in bytes,
durations in seconds.
"""

from typing import Any, NotRequired, TypedDict

Json = dict[str, Any]  # a file of somebody else's making, or one whose keys follow the data


class Turn(TypedDict):
    """One turn of a conversation: `role` is system, user (the patient) or assistant (the doctor)."""

    role: str
    content: str


class Generation(TypedDict):
    """A row of generations.jsonl: what a test row asked, what the doctor wrote, what the arm answered.

    `prompt` is the conversation as one text for people; `messages` are its turns.
    """

    id: str | int
    group: str | int
    source: str
    prompt: str
    messages: NotRequired[list[Turn]]
    reference: str
    prediction: str
    stopped: bool
    new_tokens: int


class Interval(TypedDict):
    """A mean over `n` rows with the bounds of its confidence interval."""

    mean: float
    low: float
    high: float
    n: NotRequired[int]


class Scores(TypedDict):
    """scores.json: `per_example` names the file beside it that holds one row of metrics for each answer."""

    arm: str
    n: int
    groups: int
    metrics: dict[str, Interval]
    per_example: str
    settings: Json
    fingerprint: str
    memorization: NotRequired[Json]
    sampled: NotRequired[Json]


class Difference(TypedDict):
    """One arm minus the baseline on one primary metric: paired over the rows that both answered."""

    arm: str
    metric: str
    n: int
    groups: int
    difference: float
    low: float
    high: float
    p: float
    p_holm: float
    effect_size: float | None
    needed_groups: int | None


class Memory(TypedDict):
    """Bytes at the peak of a run: of one device, and of the host."""

    device_bytes: int
    host_bytes: int
    reserved_bytes: NotRequired[int]
    traced_bytes: NotRequired[int]
    process_bytes: NotRequired[int]


class TrainRecord(TypedDict):
    """train.json: what one arm cost and how its loss went."""

    arm: str
    base_model: str
    base_revision: str
    total_parameters: int
    trainable_parameters: int
    trainable_percent: float
    steps: int
    tokens_seen: int
    answer_tokens_seen: int
    wall_seconds: float
    tokens_per_second: float | None
    step_seconds: list[float]
    disk_traffic: dict[str, int]
    energy_joules: float | None
    energy_counted_by: str
    peak_memory: Memory
    predicted_memory: Memory
    memory_gap: Json
    history: list[dict[str, float]]
    best_step: int | None
    saved_step: int | None
    seed: int
    processes: int
    micro_batch: int
    distributed: str
    quantization: str | None
    comparable: Json
    settings: Json
    versions: dict[str, str]
    fingerprint: str


class PlannedModel(TypedDict):
    """The model of plan.json: its weights, and those of the adapters that LoRA would train."""

    name: str
    parameters: int
    lora_parameters: int
    lora_percent: float


class PlanRow(TypedDict):
    """One strategy of plan.json on one machine. `device_bytes` are one GPU's, by category; 0 GPUs: of the host."""

    name: str
    fits: bool
    reason: str
    margin: dict[str, int | None]
    device_bytes: dict[str, int]
    host_bytes: int
    host_bytes_by: dict[str, int]
    host_bytes_pinned: int
    pinned_bytes: int
    disk_bytes: int
    largest_micro_batch: int
    seconds_per_step: float | None
    note: str
    recipe: str | None
    accelerate_config: str


class Plan(TypedDict):
    """plan.json: every strategy on the described hardware, and the one that is recommended."""

    model: PlannedModel
    recipe: str | None
    inputs: Json
    hardware: Json  # the fields of hardware.specs.Hardware
    strategies: list[PlanRow]
    recommended: str | None
    recommended_reason: str
    fingerprint: str


class RuleExample(TypedDict):
    """The first change that a data rule made."""

    before: str
    after: str


class RowCounts(TypedDict):
    """The part of data_report.json that counts rows and tokens."""

    rows_read: int
    rows_kept: int
    dropped: dict[str, int]
    repaired: dict[str, int]
    redacted: dict[str, int]
    duplicates: dict[str, int]
    splits: dict[str, dict[str, int]]
    tokens: dict[str, dict[str, int]]
    truncated: dict[str, int]
    leaking: int
    sources: dict[str, dict[str, int]]
    lengths: list[int]


class DataReport(RowCounts):
    """data_report.json: what became of every row of the source."""

    samples: dict[str, RuleExample]
    seconds: dict[str, float]
    inputs: str
    arguments: Json
    template_sha256: str
    fingerprint: str
