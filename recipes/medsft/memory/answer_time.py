"""Hours to answer many questions, by a roofline: the slower of arithmetic and memory traffic, for an engine that fills
its batches, as vLLM does.

An order of magnitude for choosing machines, calculated and not measured. Two phases: the questions are read (arithmetic
bound), then each step reads all weights and the cache of every dialogue of the batch for one new token each.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from medsft.hardware.specs import Hardware
from medsft.memory.step_time import FRACTION_OF_PEAK
from medsft.models.parameter_counts import cache_bytes, count_parameters

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

MOST_AT_ONCE = 256  # dialogues of a batch: vLLM's default
USED = 0.9  # of a GPU's memory: vLLM's default
FRACTION_OF_BANDWIDTH = 0.6  # of the data sheet's that decoding reaches: an assumption
SPLIT = 0.8  # what is left of the speed where a model is split over GPUs, which then wait for each other: an assumption
SPLITS = (1, 2, 4, 8)  # GPUs that one copy of the model can be split over, all of one machine


@dataclass(frozen=True)
class Work:
    """How many answers, and the tokens of a question and of an answer."""

    answers: int
    prompt: int
    new: int


@dataclass(frozen=True)
class Estimate:
    """`split`: GPUs of one copy of the model; `batch`: dialogues at once of each copy; `tokens_per_second`: new ones of
    all GPUs; `hours` of the clock.
    """

    split: int
    copies: int
    batch: int
    tokens_per_second: float
    hours: float

    @property
    def gpu_hours(self) -> float:
        return self.hours * self.split * self.copies


def estimate(
    config: "PreTrainedConfig", gpu: Hardware, gpus: int, work: Work, bits_per_weight: float = 16
) -> Estimate | None:
    """The fastest way to answer with `gpus` GPUs like `gpu`; None where no copy of the model fits them.

    `bits_per_weight`: 16 for bf16, 4.8 for q4_k_m. Arithmetic is in bf16 either way.
    """
    found = [_split(config, gpu, gpus, split, work, bits_per_weight) for split in SPLITS if split <= gpus]
    return min((each for each in found if each), key=lambda each: each.hours, default=None)


def _split(
    config: "PreTrainedConfig", gpu: Hardware, gpus: int, split: int, work: Work, bits_per_weight: float
) -> Estimate | None:
    assert gpu.tflops and gpu.bandwidth
    parameters, per_token = count_parameters(config), cache_bytes(config)
    weights = parameters * bits_per_weight / 8
    room = USED * gpu.device_bytes * split - weights
    batch = min(MOST_AT_ONCE, int(room / (per_token * (work.prompt + work.new))))
    if batch < 1:
        return None
    kept = split * (SPLIT if split > 1 else 1.0)
    flops, bandwidth = FRACTION_OF_PEAK * gpu.tflops * 1e12 * kept, FRACTION_OF_BANDWIDTH * gpu.bandwidth * 1e9 * kept
    reading = 2 * parameters * work.prompt / flops
    context = work.prompt + work.new / 2  # of a dialogue on average while it is answered
    step = max((weights + batch * per_token * context) / bandwidth, 2 * parameters * batch / flops)
    copies = gpus // split
    seconds = work.answers * (reading + work.new * step / batch) / copies
    return Estimate(split, copies, batch, work.answers * work.new / seconds, seconds / 3600)
