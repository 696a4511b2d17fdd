"""What the source study says about memory, beside the exact numbers for its model. Never mixed with measured ones.

The study declares full fine-tuning infeasible on one 80 GB GPU and gives three totals for it that disagree. Only
numbers that the study prints are repeated; an explanation of a total is marked as our reading.
"""

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from medsft.memory.planner import format_gb as gb
from medsft.memory.step_config import StepConfig
from medsft.models.parameter_counts import lora_parameters, sizes_of

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

STUDY_MODEL = "mistralai/Mistral-7B-Instruct-v0.2"
LENGTH, BATCH, RANK = 512, 4, 16
TOTALS = {"section VI.E": 84_000_000_000, "Table 4": 98_000_000_000, "section II.C": 120_000_000_000}


class Claim(NamedTuple):
    """One statement of the study, what is exact, and what explains the difference."""

    where: str
    published: str
    exact: str
    remark: str


def claims(config: "PreTrainedConfig | None") -> list[Claim]:
    """The study's statements for its model (7,241,732,096 parameters), batch 4 x 512, rank 16."""
    from medsft.memory.trace.cache import traced_steps
    from medsft.memory.trace.step import highest

    assert config is not None  # the study's model is among the known ones
    sizes = sizes_of(config)
    n, adapters = sizes.parameters, lora_parameters(sizes, RANK)
    step = StepConfig(batch=BATCH, length=LENGTH, own_loss=True)
    quantized = StepConfig(method="qlora", batch=BATCH, length=LENGTH, lora_r=RANK, double_quant=False, own_loss=True)
    steps = [replace(step, checkpointing=False), step, StepConfig(batch=BATCH, length=LENGTH), quantized]
    peaks = traced_steps(config, sizes.uniform, steps)
    kept, checkpointed = (p["backward/loss"]["activations"] for p in peaks[:2])
    full, qlora = (sum(highest(p)[1].values()) for p in peaks[2:])
    nf4 = 0.5625 * sizes.linear_parameters + 2 * (n - sizes.linear_parameters)  # as the study: no double quantization
    return [
        Claim(
            "total, section VI.E", gb(TOTALS["section VI.E"]), f"{gb(12 * n)} bf16 weights and gradients, fp32 AdamW",
            "our reading: 12 bytes x 7.0 billion, with neither an fp32 master (4 more bytes) nor activations",
        ),
        Claim(
            "total, Table 4", gb(TOTALS["Table 4"]), f"{gb(12 * n + kept)} the same with activations",
            "our reading: the 84 above and 14 of activations; parts that never peak together are added",
        ),
        Claim(
            "total, section II.C", gb(TOTALS["section II.C"]), f"{gb(16 * n)} fp32 weights, gradients and AdamW",
            "classic mixed precision, 16 bytes per parameter; a third strategy under the same name",
        ),
        Claim(
            "activations", "~14 GB", f"{gb(kept)}; {gb(checkpointed)} with checkpointing",
            "traced, waiting for the backward pass; with checkpointing the gradients hide them at the peak",
        ),
        Claim(
            "bf16 with 8-bit AdamW", "over 40 GB, no room for gradients", f"{gb(6 * n)} gradients included",
            "weights, gradients and optimizer at 2 bytes each: about 36 GB of an 80 GB GPU stay free",
        ),
        Claim(
            "left out", "-", f"{gb(full)} all bf16, fused AdamW, traced",
            "full fine-tuning fits one 80 GB GPU without offload (quality less tested than with an fp32 master)",
        ),
        Claim(
            "QLoRA peak", "10-12 GB", f"{gb(qlora)} traced; {gb(nf4)} is the model in NF4",
            "not measured in the study; a second, idle copy of the 4-bit model was resident",
        ),
        Claim(
            "trainable share", "0.57 % (notebook: 1.11 %)", f"{100 * adapters / n:.3f} %, {adapters:,} of {n:,}",
            "1.11 % divides by a count in which two 4-bit weights are one element",
        ),
    ]  # fmt: skip
