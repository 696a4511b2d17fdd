"""Options that the recipe leaves open, set to what is faster on this processor or GPU, and printed with the reason."""

import os
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from medsft.config import is_on, peek
from medsft.files import read_json
from medsft.hardware import matmul_benchmark
from medsft.hardware.gpus import compute_capability


class Choice(NamedTuple):
    """One option that the machine decides, the value, and why."""

    option: str
    value: str
    reason: str


def choose(argv: list[str]) -> list[str]:
    """This machine's choices as words to add to the command line `argv`, so that they are recorded like a user's.

    An option named in the YAML or on the command line is left as it is, except bf16 on a processor where it is slower
    than float32: up to a hundred times. bf16 stays where bf16_states asks for it, to save memory, where the optimizer
    is made for weights in bf16, and where the user's own DeepSpeed file sets it.
    """
    capability = 0.0 if is_on("use_cpu", argv) else compute_capability()
    adapters = is_on("use_peft", argv)
    choices = _for_gpu(capability, adapters) if capability else _for_processor(matmul_benchmark.measured())
    own_rows = (
        is_on("packing", argv) or is_on("truncate_answers", argv) or not is_on("end_of_turn_loss", argv, default=True)
    )
    if own_rows or peek("pad_to_multiple_of", None, argv):
        choices = [choice for choice in choices if choice.option != "padding_free"]
    if is_on("bf16_states", argv) or _rounds_by_itself(argv) or _deepspeed_file_sets_bf16():
        choices = [choice for choice in choices if choice.option not in ("bf16", "dtype", "fp16")]
    forced = {choice.option for choice in choices if choice.option in ("bf16", "dtype", "fp16")}
    if "bf16" in forced and "ACCELERATE_MIXED_PRECISION" in os.environ:
        os.environ["ACCELERATE_MIXED_PRECISION"] = "no"  # DeepSpeed and FSDP read the launcher's value
    choices += _saves_for_the_best(argv)
    words = []
    for option, value, reason in choices:
        if option not in (*forced, "save_steps", "save_strategy") and peek(option, None, argv) is not None:
            continue
        words += [f"--{option}", value]
        if int(os.environ.get("RANK", "0")) == 0:
            print(f"chosen for this machine: {option} {value} ({reason})")
    return words


def _saves_for_the_best(argv: list[str]) -> list[Choice]:
    """Checkpoints at the evaluations, where the best one is to be kept and the recipe saves at other steps.

    transformers refuses those, and steps beside a share of the run. `--save_steps` on the command line stays.
    """
    if not is_on("load_best_model_at_end", argv) or any(word.startswith("--save_st") for word in argv):
        return []
    strategy, saved = str(peek("eval_strategy", "no", argv)), str(peek("save_strategy", "steps", argv))
    every, often = (str(peek(f"{what}_steps", 500, argv)) for what in ("eval", "save"))
    both_shares = (float(every) < 1) == (float(often) < 1)
    multiple = both_shares and round(float(often) / float(every), 6) % 1 == 0
    if strategy == "no" or (strategy == saved and (strategy != "steps" or multiple)):
        return []
    reason = "the best checkpoint is kept, so each evaluated one is saved"
    return [Choice("save_strategy", strategy, reason), Choice("save_steps", every, reason)]


def _rounds_by_itself(argv: list[str]) -> bool:
    """Whether the optimizer keeps what bf16 weights lose: torchao's by stochastic rounding, FlashAdamW in 8 bits more.

    In float32 it would be another strategy, and FlashAdamW refuses it.
    """
    return is_on("flash_adamw", argv) or str(peek("optim", "", argv)) == "adamw_torch_8bit"


def _deepspeed_file_sets_bf16() -> bool:
    """Whether bf16 is more than "auto" in the file that accelerate's YAML names as deepspeed_config_file."""
    path = os.environ.get("ACCELERATE_DEEPSPEED_CONFIG_FILE", "")
    settings = read_json(Path(path)) if path.endswith(".json") else {}  # it may be the settings themselves, in base64
    return settings.get("bf16", {}).get("enabled") is True


def _for_processor(speed: dict[str, float]) -> list[Choice]:
    """`speed`: GFLOP/s by precision, as matrix_speed measures it."""
    # Fused attention of short sequences is slow on processors: a step of 4 x 512 took a fifth longer with sdpa.
    choices = [Choice("attn_implementation", "eager", "faster than sdpa on a processor at a few hundred tokens")]
    if speed["bfloat16"] < matmul_benchmark.GAIN * speed["float32"]:
        reason = "products here: bf16 {bfloat16:.0f}, float32 {float32:.0f} GFLOP/s".format(**speed)
        choices += [Choice("bf16", "false", reason), Choice("dtype", "float32", reason)]
    return choices


def _for_gpu(capability: float, adapters: bool) -> list[Choice]:
    """`capability`: CUDA compute capability, such as 8.0 for an A100, of the least able visible GPU.

    Below 8 (T4, V100) there are no bf16 units: `adapters` train on a base in float16 under its autocast with loss
    scaling. Weights in float16 cannot be trained so, and stay as the recipe says.
    """
    if capability < 8:
        reason = f"bf16 and flash attention need compute capability 8, here {capability}"
        half = [("dtype", "float16"), ("bf16", "false"), ("fp16", "true")] if adapters else []
        return [Choice(option, value, reason) for option, value in [("attn_implementation", "sdpa"), *half]]
    choices = []
    if find_spec("flash_attn"):
        choices.append(Choice("attn_implementation", "flash_attention_2", "flash-attn is installed"))
        choices.append(
            Choice("padding_free", "true", "flash attention reads rows that lie end to end: nothing is padded")
        )
    else:
        choices.append(Choice("attn_implementation", "sdpa", "flash-attn is not installed"))
    if find_spec("liger_kernel"):
        choices.append(Choice("use_liger_kernel", "true", "liger-kernel is installed: fused norms, rotary and MLP"))
    return choices
