"""Start a script as `accelerate launch` starts it, on processors, and write down what each process ended with.

    accelerate launch --config_file X tests/training/launched.py recipes/sft_full.py --config Y ...

accelerate turns FSDP on for several GPUs and their kin, not for several processors, where the same launch would be
DistributedDataParallel. Here its state calls gloo's processes GPUs, and what follows from that is accelerate's own:
DistributedType.FSDP, the plugin of the YAML, fully_shard. Each process leaves process_N.json in its arm's folder.
"""

import hashlib
import json
import os
import runpy
import sys
from pathlib import Path
from typing import Any

from medsft import startup


def call_processors_gpus() -> None:
    """Let accelerate decide on FSDP as it does where gloo's processes have GPUs."""
    import torch
    from accelerate.state import PartialState
    from accelerate.utils import DistributedType

    original = PartialState.__init__

    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        if self.distributed_type == DistributedType.MULTI_CPU:
            self.distributed_type = DistributedType.MULTI_GPU

    PartialState.__init__ = init  # type: ignore[method-assign]
    torch.Tensor.pin_memory = lambda self, *_: self  # type: ignore[method-assign]  # there is no device to copy to


def state_of(trainer: Any) -> dict[str, Any]:
    """What the libraries made of the model, read from their own objects, and a hash of the whole trained weights."""
    from torch.distributed.fsdp import FSDPModule
    from torch.distributed.tensor import DTensor

    model, wrapped = trainer.model, trainer.model_wrapped
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    found: dict[str, Any] = {"class": type(wrapped).__name__, "checkpointing": bool(model.is_gradient_checkpointing)}
    if isinstance(model, FSDPModule):
        states = [module._get_fsdp_state() for module in model.modules() if isinstance(module, FSDPModule)]
        groups = [group for state in states for group in state._fsdp_param_groups]
        found["policies"] = sorted({type(group.offload_policy).__name__ for group in groups})
        found["groups"] = len(groups)
        found["all_sharded"] = all(isinstance(parameter, DTensor) for parameter in trained.values())
        found["computes_in"] = sorted({str(group.mp_policy.param_dtype) for group in groups})
    if found["class"] == "DeepSpeedEngine":
        zero = wrapped.optimizer
        found["stage"] = wrapped.zero_optimization_stage()
        found["engine"] = type(zero).__name__
        found["optimizer"] = type(zero.optimizer).__name__
    return found | {"weights": digest(trained)}


def digest(trained: dict[str, Any]) -> str:
    """SHA-256 of the trained weights, gathered whole where they are sharded. All processes must call it."""
    import torch

    sums = hashlib.sha256()
    for name, parameter in trained.items():
        whole = parameter.full_tensor() if hasattr(parameter, "full_tensor") else parameter
        if hasattr(parameter, "ds_id"):
            import deepspeed

            with deepspeed.zero.GatheredParameters([parameter]):
                whole = parameter.detach().clone()
        sums.update(name.encode() + whole.detach().contiguous().view(torch.uint8).numpy().tobytes())
    return sums.hexdigest()


def main() -> None:
    os.environ |= {"CUDA_VISIBLE_DEVICES": "", "DS_ACCELERATOR": "cpu"}
    startup.import_quickly(False)
    if os.environ.get("ACCELERATE_USE_FSDP", "").lower() == "true":
        call_processors_gpus()
    from medsft.training import sft

    end = sft.end

    def write_and_end(trainer: Any) -> None:
        folder, rank = Path(str(trainer.args.output_dir)), trainer.args.process_index
        (folder / f"process_{rank}.json").write_text(json.dumps(state_of(trainer)))
        end(trainer)

    sft.end = write_and_end
    del sys.argv[0]
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
