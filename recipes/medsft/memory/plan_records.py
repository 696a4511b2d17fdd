"""The keys of plan.json. Sizes are in bytes, durations in seconds."""

from typing import TypedDict

from medsft.records import Json


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
    choices: list[str]  # what its run chooses for speed, with the reasons
    fingerprint: str
