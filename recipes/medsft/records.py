"""The keys of the files that stages hand to each other. Sizes are in bytes, durations in seconds.

One stage writes a file and stages of other rooms read it, so its keys are declared once, here. Those of
comparison.json and results.json are in `result_records`.
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


class Summary(TypedDict):
    """Means with intervals of one arm, naive baseline or ceiling over `n` test rows in `groups` groups."""

    n: int
    groups: NotRequired[int]
    metrics: dict[str, Interval]


class SampledInterval(Interval):
    """A mean over sampled answers: `low` and `high` cover seeds and dialogues, `spread` the seeds alone."""

    spread: float
    by_seed: dict[str, float]


class Sampled(TypedDict):
    """Scores of answers that were sampled once for each of `seeds`."""

    seeds: list[int]
    n: int
    metrics: dict[str, SampledInterval]


class Scores(Summary):
    """scores.json: `per_example` names the file beside it that holds one row of metrics for each answer."""

    arm: str
    per_example: str
    settings: Json
    fingerprint: str
    memorization: NotRequired[Summary]
    sampled: NotRequired[Sampled]


class Difference(TypedDict):
    """One arm minus the baseline on one primary metric: paired over the rows that both answered."""

    arm: str
    baseline: str
    metric: str
    n: int
    difference: float
    low: float
    high: float
    p: float
    p_holm: float
    effect_size: float | None
    needed_groups: int | None


class GenerationRecord(TypedDict, total=False):
    """generation.json: how an arm answered. Tokens per second are new ones."""

    arm: str
    base_model: str
    precision: str
    engine: str
    n: int
    tokens_per_second: float
    sha256: str
    settings: Json
    versions: dict[str, str]
    fingerprint: str


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

    model: Json
    recipe: str | None
    inputs: Json
    hardware: Json
    strategies: list[PlanRow]
    recommended: str | None
    recommended_reason: str
    fingerprint: str


class DataReport(TypedDict):
    """data_report.json: what became of every row of the source."""

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
    samples: dict[str, dict[str, str]]
    seconds: dict[str, float]
    arguments: Json
    inputs: str
    template_sha256: str
    fingerprint: str
