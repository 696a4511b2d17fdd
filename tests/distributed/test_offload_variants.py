"""SuperOffload and ZenFlow: what DeepSpeed's own configuration makes of them, and where they are refused."""

from types import SimpleNamespace
from typing import Any

import pytest

from medsft.distributed import offload_variants
from medsft.errors import UserError


def settings(stage: int = 3, device: str = "cpu") -> dict[str, Any]:
    return {"zero_optimization": {"stage": stage, "offload_optimizer": {"device": device}}}


def config(max_grad_norm: float = 0.0) -> Any:
    return SimpleNamespace(max_grad_norm=max_grad_norm, should_save=True)


@pytest.mark.parametrize("variant", offload_variants.CHANGES)
def test_deepspeed_reads_what_is_set(variant: str, capsys: pytest.CaptureFixture[str]) -> None:
    from deepspeed.runtime.zero.config import DeepSpeedZeroConfig

    found = settings()
    offload_variants.use(variant, found, config(), on_gpu=True)
    zero = DeepSpeedZeroConfig(**found["zero_optimization"])
    assert zero.offload_optimizer.super_offload == (variant == "superoffload")
    assert (zero.zenflow is not None) == (variant == "zenflow")
    assert "not run by this project yet" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("variant", "found", "clips", "on_gpu", "said"),
    [
        ("superoffload", settings(), 1.0, True, "--max_grad_norm 0"),
        ("superoffload", settings(stage=2), 0.0, True, "ZeRO-3"),
        ("zenflow", settings(device="nvme"), 0.0, True, "zero3_offload.yaml"),
        ("zenflow", settings(), 0.0, False, "NVIDIA GPU"),
        ("twinflow", settings(), 0.0, True, "superoffload and zenflow"),
    ],
)
def test_it_is_refused_with_what_to_do(
    variant: str, found: dict[str, Any], clips: float, on_gpu: bool, said: str
) -> None:
    before = str(found)
    with pytest.raises(UserError, match=said):
        offload_variants.use(variant, found, config(clips), on_gpu)
    assert str(found) == before
