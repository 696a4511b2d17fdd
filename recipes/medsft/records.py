"""The keys of the files that stages hand to each other. Sizes are in bytes, durations in seconds.

One stage writes a file and stages of other rooms read it, so its keys are declared once, here. Those of
comparison.json and results.json are in `result_records`, those of plan.json in `memory.plan_records`.
"""

from typing import Any, NotRequired, TypedDict

Json = dict[str, Any]  # a file of somebody else's making, or one whose keys follow the data


class Turn(TypedDict):
    """One turn of a conversation: `role` is system, user (the patient) or assistant (the doctor)."""

    role: str
    content: str


class SplitRow(TypedDict):
    """A row of a prepared split as generation reads it. The last of `messages` is the doctor's answer."""

    id: str | int
    group: str | int
    source: str
    messages: list[Turn]
    statements: NotRequired[list[Json]]


class Question(TypedDict):
    """A test row as every arm is asked it. `messages` are the turns before `reference`, `prompt` is their text."""

    id: str | int
    group: str | int
    source: str
    prompt: str
    messages: list[Turn]
    reference: str
    statements: NotRequired[list[Json]]  # data.reading.statements.Statement


class Answer(Question):
    """A question with an answer to it. `stopped`: the answer ended its own turn."""

    prediction: str
    stopped: bool


class Generation(Answer):
    """A row of generations.jsonl. Older files have no `messages`: their `prompt` is read as one user turn."""

    new_tokens: int


class Interval(TypedDict):
    """A mean and its interval, both bounds None where none can be defended. `n`: rows with a value, if not all."""

    mean: float
    low: float | None
    high: float | None
    n: NotRequired[int]
    no_interval: NotRequired[str]


class Summary(TypedDict):
    """The metrics of one system over `n` rows in `groups` groups."""

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
    """scores.json. `per_example` names the file beside it with one ScoreRow for each answer."""

    arm: str
    per_example: str
    settings: "ScoreSettings"
    answers: NotRequired[str]  # SHA-256 of generations.jsonl
    also_read: NotRequired[dict[str, str]]  # the same of the files of sampled and penalised answers
    fingerprint: str
    memorization: NotRequired[Summary]
    sampled: NotRequired[Sampled]


class ScoreSettings(TypedDict):
    """How scores are made. `bert_baseline`: mean BERTScore F1 of random pairs, the zero of the rescaled one."""

    encoder: str
    layer: int
    hash: str
    precision: NotRequired[str]  # of the encoder
    bert_baseline: float
    stemmer: bool
    bert_batch_size: int
    resamples: int
    confidence: float
    seed: int
    primary: list[str]
    decoding: str
    safety_margin: float
    margins: dict[str, float]
    english: bool
    safety_instrument: NotRequired[Json]  # how often the readings of emergencies and urgent advice are wrong
    completeness: NotRequired[Json]  # what read the statements, and how often it is wrong
    versions: dict[str, str]


ScoreRow = Json  # a row of scores_per_example.jsonl: `id`, `group`, and a number or None for each metric


class Change(TypedDict):
    """A mean difference of paired rows with its interval. `effect_size`: Cohen's d over groups.

    `low` and `high` are None where no interval can be defended; `no_interval` says why."""

    difference: float
    low: float | None
    high: float | None
    n: int
    effect_size: float | None
    no_interval: NotRequired[str]


class Effect(Change):
    """A tested difference. `needed_groups`: groups for 80 % power to see an effect of this size; `detectable`: the
    difference that these groups show with 80 % power.
    """

    p: float
    needed_groups: int | None
    detectable: NotRequired[float | None]


class Difference(Effect):
    """One arm minus another system on one primary metric. `p_holm` is adjusted over all rows of its list.

    `quality`: superior, equivalent, non-inferior, inconclusive, worse or inferior, by the `margin` of the plan.
    """

    metric: str
    baseline: str
    arm: str
    p_holm: float
    margin: NotRequired[float]
    quality: NotRequired[str]


class GenerationRecord(TypedDict, total=False):
    """generation.json: how an arm answered. Tokens per second are new ones."""

    arm: str
    base_model: str
    base_revision: str
    precision: str
    device: str  # the GPU's or processor's name
    engine: str
    engine_version: str
    n: int
    processes: int
    shares: int  # of the rows, each answered by a launch of its own
    tokens_per_second: float  # of one share
    data: str  # fingerprint of the split, as in data_report.json
    trained: str  # fingerprint of train.json; of an untrained arm, its base model
    sha256: str
    settings: Json
    versions: dict[str, str]
    plan_hash: str
    fingerprint: str


class Memory(TypedDict):
    """Bytes at the peak of a run: of one device, and of the host."""

    device_bytes: int
    host_bytes: int
    reserved_bytes: NotRequired[int]
    allocated_bytes: NotRequired[int]
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
    rows_per_step: int
    master_precision: str
    distributed: str
    wrapped_by: str
    offload: dict[str, str]
    quantization: str | None
    comparable: Json
    settings: Json
    versions: dict[str, str]
    fingerprint: str


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
    answers: NotRequired[dict[str, dict[str, int]]]
    languages: NotRequired[dict[str, int]]
    scripts: NotRequired[dict[str, int]]
    english_rules: NotRequired[Json]


class DataReport(RowCounts):
    """data_report.json: what became of every row of the source."""

    deidentification: NotRequired[Json]
    system_turns: NotRequired[Json]  # tokenization.system_turns.SystemTurns
    also_test: NotRequired[dict[str, Json]]  # further test sets: data.also_test.count
    samples: dict[str, dict[str, str]]  # {rule: its first change, before and after}
    seconds: dict[str, float]
    inputs: str
    arguments: Json
    template_sha256: str
    fingerprint: str
