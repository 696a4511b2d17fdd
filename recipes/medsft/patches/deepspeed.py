"""DeepSpeed 0.19: what it leaves out when a run resumes, so that the run would end with other weights.

With the optimizer on NVMe (runtime/engine.py, load_checkpoint) it copies the swapped files back and skips the ZeRO
checkpoint. The float32 weights of swapped sub-groups are right then. But

- their AdamW moments, though on the disk, are not registered with the swapper, which starts new ones at step 0;
- sub-groups too small to be swapped keep the weights they were built with;
- the learning rate of the next step is that of step 0.

Wherever its AdamW runs on the host (csrc/includes/cpu_adam.h, IncrementStep), the powers of both betas are updated from
step to step by a product. A resumed run computes them by std::pow, which differs in the last bit.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from medsft.errors import UserError

if TYPE_CHECKING:
    from deepspeed.ops.adam import DeepSpeedCPUAdam
    from deepspeed.runtime.zero.stage3 import DeepSpeedZeroOptimizer_Stage3


class CompleteResume(TrainerCallback):
    """Completes a resumed DeepSpeed optimizer before the first step; nothing happens in other runs."""

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        optimizer: torch.optim.Optimizer | None = None,
        **_: object,
    ) -> None:
        zero = getattr(optimizer, "optimizer", None)  # inside accelerate's wrapper
        if zero is None or not state.global_step:
            return
        if getattr(zero, "swap_optimizer", False):
            checkpoint = Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"
            restore_swapped(zero, checkpoint, args.process_index)
        adam = getattr(zero, "optimizer", None)
        if adam is not None and hasattr(adam, "ds_opt_adam"):
            repeat_powers(adam, state.global_step)


def import_dynamo() -> None:
    """Import torch's compiler now: imported for the first time inside zero.Init it fails with a signature mismatch."""
    import torch._dynamo  # noqa: F401


def restore_swapped(zero: "DeepSpeedZeroOptimizer_Stage3", checkpoint: Path, rank: int) -> None:
    """Give an optimizer on NVMe the states that `checkpoint` holds of this rank.

    Swapped moments are registered only: the next step reads them from the files that DeepSpeed has copied back. Raises
    UserError where the checkpoint has no file of this rank.
    """
    files = sorted(checkpoint.glob(f"global_step*/*zero_pp_rank_{rank}_mp_rank_00_optim_states.pt"))
    if not files:
        raise UserError(
            f"{checkpoint}: no optimizer states of process {rank}; delete it to resume from an older checkpoint"
        )
    # DeepSpeed's own file, which it reads in the same way; its hash is in the checkpoint's manifest
    saved = torch.load(files[-1], map_location="cpu", weights_only=False)["optimizer_state_dict"]
    states = saved["optimizer_state_dict"]["state"]
    for group, known in zip(zero.optimizer.param_groups, saved["optimizer_state_dict"]["param_groups"], strict=True):
        group.update({key: value for key, value in known.items() if key != "params"})
    for number, master in enumerate(zero.fp32_partitioned_groups_flat):
        state = states.get(number)
        if state is None:
            continue
        if zero._swappable_optimizer_subgroup(number):
            length = zero.fp16_partitioned_groups_flat_numel[number]
            empty = {k: torch.empty(length) if torch.is_tensor(v) and v.dim() else v for k, v in state.items()}
            zero.optimizer.state[master] = empty
            zero.optimizer_swapper._get_param_swap_info(master).release_memory()
        else:
            zero.optimizer.state[master] = dict(state)
            master.data.copy_(saved["fp32_flat_groups"][number].data)
            zero._reassign_or_swap_out_partitioned_parameters(number)


def repeat_powers(adam: "DeepSpeedCPUAdam", steps: int) -> None:
    """Bring the powers of the betas to where `steps` steps leave them, by steps on a single zero."""
    betas, zeros = adam.param_groups[0]["betas"], [torch.zeros(1) for _ in range(4)]
    for step in range(1, steps + 1):
        adam.ds_opt_adam.adam_update(adam.opt_id, step, 0.0, *betas, 1e-8, 0.0, True, *zeros)
