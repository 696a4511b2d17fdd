"""The strategies that the memory plan compares, the order in which it recommends them, and their recipes."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from medsft.config import nearest
from medsft.errors import UserError
from medsft.memory.step_config import FLASH, StepSettings

if TYPE_CHECKING:
    from trl import ModelConfig, SFTConfig

    from medsft.arguments import StudyArguments


@dataclass(frozen=True)
class Strategy:
    """What a strategy changes of `StepConfig`, or where a sharding engine keeps things.

    `engine`: '' (one process holds all), 'zero2', 'zero3' (DeepSpeed) or 'fsdp2'. `optimizer`, `parameters`: where the
    engine keeps them: none (on the device), cpu or nvme.
    """

    step: StepSettings = field(default_factory=lambda: StepSettings())
    engine: str = ""
    optimizer: str = "none"
    parameters: str = "none"
    bf16_states: bool = False
    states: float = 0  # bytes of optimizer states a trained parameter, on disk in a checkpoint
    swap: int = 0  # bytes a parameter on disk while it trains
    pcie: int = 0  # bytes a parameter moved per step without gradient accumulation
    config: str = ""  # the accelerate config, where it does not follow from the number of GPUs
    note: str = ""

    @property
    def trains_all(self) -> bool:
        return self.step.get("method", "full") == "full"


STRATEGIES = {
    "lora": Strategy({"method": "lora"}, states=8),
    "qlora": Strategy({"method": "qlora"}, states=8, note="4-bit base"),
    "full_fp32": Strategy({"dtype": "float32"}, states=8, note="fp32 weights under bf16 autocast"),
    "full": Strategy(states=4, note="all bf16: loses small updates"),
    "full_8bit": Strategy(
        {"optimizer": "adamw_torch_8bit"}, states=2.03, note="bf16, rounded stochastically; 8-bit AdamW"
    ),
    "full_8bit_in_backward": Strategy(
        {"optimizer": "adamw_torch_8bit", "in_backward": True}, states=2.03,
        note="the same, updated during the backward pass: not clipped",
    ),
    "full_flash": Strategy(
        {"optimizer": FLASH}, states=3.125, note="bf16 and 8 more bits of each weight; FlashAdamW"
    ),
    "full_adafactor": Strategy({"optimizer": "adafactor"}, states=0.01, note="bf16, which loses small updates"),
    "full_zero2": Strategy(engine="zero2", states=12, config="zero2.yaml", note="fp32 master"),
    "full_zero3": Strategy(engine="zero3", states=12, config="zero3.yaml", note="fp32 master"),
    "full_zero2_offload": Strategy(
        engine="zero2", optimizer="cpu", states=12, pcie=6, config="zero2_offload.yaml", note="fp32 master"
    ),
    "full_zero3_optimizer_offload": Strategy(
        engine="zero3", optimizer="cpu", states=12, pcie=10, config="zero3_optimizer_offload.yaml", note="fp32 master"
    ),
    "full_zero3_offload": Strategy(
        engine="zero3", optimizer="cpu", parameters="cpu", states=12, pcie=14, config="zero3_offload.yaml",
        note="fp32 master",
    ),
    "full_zero3_offload_bf16": Strategy(
        engine="zero3", optimizer="cpu", parameters="cpu", bf16_states=True, states=6, pcie=12,
        config="zero3_offload.yaml", note="bf16 master and states",
    ),
    "full_fsdp2_offload": Strategy(
        engine="fsdp2", optimizer="cpu", parameters="cpu", states=8, pcie=12, config="fsdp2_offload.yaml",
        note="fp32 weights; by arithmetic, not traced",
    ),
    "full_nvme": Strategy(
        engine="zero3", optimizer="nvme", parameters="cpu", states=12, swap=16, pcie=14, config="zero3_nvme.yaml",
        note="states on NVMe",
    ),
}  # fmt: skip

# By quality first, then cost: fp32 masters without offload, then adapters (close in quality at a fraction of the
# memory), then full fine-tuning by offload, then what saves memory in ways whose quality is less tested.
ORDER = {
    "full_fp32": "full fine-tuning in mixed precision fits without offload: the reference in precision",
    "full_zero2": "full fine-tuning with fp32 master weights fits when gradients and states are sharded over the GPUs",
    "full_zero3": "full fine-tuning with fp32 master weights fits when sharded over the GPUs",
    "lora": "adapters on the unquantized model: close to full fine-tuning, which fits only by offload or in bf16",
    "qlora": "adapters on the 4-bit model: adapters on the unquantized one do not fit",
    "full_zero3_optimizer_offload": "full fine-tuning with the optimizer in host memory",
    "full_zero2_offload": "full fine-tuning with the optimizer in host memory",
    "full_zero3_offload": "full fine-tuning with parameters and optimizer in host memory",
    "full_fsdp2_offload": "full fine-tuning with parameters and optimizer in host memory, without DeepSpeed",
    "full_8bit": "full fine-tuning in bf16 with stochastic rounding and 8-bit optimizer states",
    "full_flash": "full fine-tuning with 24-bit masters and 8-bit moments by FlashAdamW, which has not run here",
    "full_8bit_in_backward": "as full_8bit without holding gradients, and so without clipping them",
    "full": "full fine-tuning in bf16, which loses updates below a 256th of a weight",
    "full_zero3_offload_bf16": "full fine-tuning by offload in bf16, which loses updates below a 256th of a weight",
    "full_adafactor": "full fine-tuning with Adafactor, which is another optimizer than AdamW",
    "full_nvme": "full fine-tuning with optimizer states on NVMe, which is slow",
}
# Without a GPU `full` is in fp32: the reference, so first.
ON_CPU = {"full": Strategy({"dtype": "float32"}, states=8, note="fp32 weights and states")}
ORDER_ON_CPU = {"full": "full fine-tuning in fp32 fits in host memory: the reference in precision"}
ORDER_ON_CPU |= {name: reason for name, reason in ORDER.items() if name != "full"}
# `full` is the fp32 one there, 8-bit AdamW is for CUDA only, and the others only move what is in one place anyway.
GPU_ONLY = (
    "full_fp32",
    "full_8bit",
    "full_8bit_in_backward",
    "full_flash",
    "full_adafactor",
    "full_zero2",
    "full_zero3",
    "full_zero2_offload",
    "full_fsdp2_offload",
)


def applies(name: str, gpus: int, nodes: int = 1) -> bool:
    """Whether a strategy makes sense on so many GPUs of each machine."""
    if gpus == 0:
        return name not in GPU_ONLY
    # sharding needs several processes; an update during the backward pass cannot wait for another's gradients
    return name not in (("full_zero2", "full_zero3") if gpus * nodes == 1 else ("full_8bit_in_backward",))


def recipe_of(folder: Path, strategy: str) -> Path | None:
    """The training recipe of a folder of recipes/configs whose YAML names this strategy; None where there is none."""
    of_it = [path for path in sorted(folder.glob("*.yaml")) if strategy == _named(path)]
    return next(
        (path for path in of_it if path.stem == strategy), of_it[0] if of_it else None
    )  # paper.yaml is qlora too


def _named(path: Path) -> str | None:
    found = re.search(r"^strategy: *(\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)
    return found[1] if found else None


def _saves_by(optimizer: str) -> str:
    """The strategy that saves memory by this optimizer; '' for optimizers that keep whole states."""
    exact = next((name for name, strategy in STRATEGIES.items() if strategy.step.get("optimizer") == optimizer), "")
    return exact or ("full_8bit" if "8bit" in optimizer else "")


def check_options(name: str, study: "StudyArguments", config: "SFTConfig", model_args: "ModelConfig") -> None:
    """Raise UserError where the options of a run contradict its strategy.

    The three may be one object that holds the fields of all.
    """
    if name not in STRATEGIES:
        raise UserError(f"strategy '{name}': {nearest(name, STRATEGIES)}")
    strategy, optimizer = STRATEGIES[name], str(getattr(config.optim, "value", config.optim))
    wrong = ""
    if strategy.trains_all == bool(model_args.use_peft):
        wrong = f"use_peft: {bool(model_args.use_peft)}".lower()
    elif not strategy.trains_all and (name == "qlora") != bool(model_args.load_in_4bit):
        wrong = f"load_in_4bit: {bool(model_args.load_in_4bit)}".lower()
    elif strategy.bf16_states != study.bf16_states:
        wrong = f"bf16_states: {study.bf16_states}".lower()
    elif strategy.step.get("in_backward", False) != study.optimizer_in_backward:
        wrong = f"optimizer_in_backward: {study.optimizer_in_backward}".lower()
    elif (strategy.step.get("optimizer") == FLASH) != study.flash_adamw:
        wrong = f"flash_adamw: {study.flash_adamw}".lower()
    elif (
        strategy.trains_all
        and not study.flash_adamw
        and _saves_by(optimizer) != _saves_by(strategy.step.get("optimizer", ""))
    ):
        wrong = f"optim: {optimizer}"
    elif name == "full_fp32" and model_args.dtype != "float32":
        wrong = f"dtype: {model_args.dtype}"
    elif name == "full" and model_args.dtype == "float32" and not config.use_cpu:
        wrong = "dtype: float32 on a GPU"
    if wrong:
        raise UserError(
            f"strategy {name} does not go with {wrong}; change one of the two (strategies: docs/methods.md)"
        )
