"""DeepSpeed's two other ways to step an optimizer on the host, by --offload_variant; neither has run here.

They change what is computed, not only where, so none is chosen by itself.
"""

from typing import TYPE_CHECKING

from medsft.errors import UserError
from medsft.records import Json

if TYPE_CHECKING:
    from trl import SFTConfig

CHANGES = {
    "superoffload": "the optimizer of each part of the weights steps while the backward pass computes the others; "
    "made for GPU and processor on one chip (GH200)",
    "zenflow": "the tenth of the gradient's columns that matters most is applied at once on the GPU, the rest is "
    "gathered and applied on the host some steps later: another optimizer, not only a faster one",
}


def use(variant: str, settings: Json, config: "SFTConfig", on_gpu: bool) -> None:
    """Put the variant into the DeepSpeed settings, and say what it changes. Raises UserError where it cannot hold what
    the recipe asks for.
    """
    if variant not in CHANGES:
        raise UserError(f"--offload_variant {variant}: there are {' and '.join(CHANGES)}")
    zero = settings["zero_optimization"]
    place = (zero.get("offload_optimizer") or {}).get("device", "none")
    if not on_gpu:
        raise UserError(f"--offload_variant {variant} needs an NVIDIA GPU; leave it out on a processor")
    if place != "cpu" or (variant == "superoffload" and zero.get("stage") != 3):
        stage = "ZeRO-3" if variant == "superoffload" else "ZeRO"
        raise UserError(
            f"--offload_variant {variant} needs {stage} with the optimizer on the host; launch with "
            "accelerate_configs/zero3_offload.yaml"
        )
    if variant == "superoffload":
        if config.max_grad_norm:  # the norm is known at the end: DeepSpeed 0.19.8 overlaps nothing then, older ones do
            raise UserError(  # not clip, without a word
                f"--offload_variant superoffload has no use where gradients are clipped to {config.max_grad_norm}: add "
                "--max_grad_norm 0, for every arm that is compared"
            )
        zero["offload_optimizer"]["super_offload"] = True
    else:
        zero["zenflow"] = {
            "topk_ratio": 0.1,
            "select_strategy": "auto",
            "update_interval": "auto",
            "overlap_step": True,
        }
    if config.should_save:
        print(f"offload_variant {variant}: {CHANGES[variant]}; not run by this project yet")
