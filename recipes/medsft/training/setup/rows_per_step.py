"""Equal rows in every optimizer step, whatever the number of processes: arms are compared only where they agree."""

from typing import TYPE_CHECKING

from medsft.arguments import StudyArguments
from medsft.errors import UserError
from medsft.memory.choices import divisors

if TYPE_CHECKING:
    from trl import SFTConfig


def rows_per_step(config: "SFTConfig") -> int:
    """Rows of one optimizer step over all processes and micro-batches."""
    rows = config.per_device_train_batch_size * config.gradient_accumulation_steps * config.world_size
    return int(rows)


def spread(study: StudyArguments, config: "SFTConfig", argv: list[str]) -> None:
    """Set micro-batch and accumulation of each process so that a step has `rows_per_step` rows.

    The micro-batch is the largest that divides a process's share and is not larger than the recipe's. Accumulation on
    the command line counts more than the recipe's rows_per_step. Raises UserError where the processes cannot share the
    rows evenly.
    """
    if "--gradient_accumulation_steps" in argv and "--rows_per_step" not in argv:
        study.rows_per_step = None
    rows, processes = study.rows_per_step, config.world_size
    if rows is None:
        return
    if rows < 1 or rows % processes:
        more = processes * -(-max(1, rows) // processes)
        raise UserError(
            f"rows_per_step {rows} cannot be shared evenly by {processes} processes; start as many as divide it "
            f"(--num_processes), or give every arm of the study --rows_per_step {more}"
        )
    share, asked = rows // processes, config.per_device_train_batch_size
    config.per_device_train_batch_size = max(size for size in divisors(share) if size <= max(1, asked))
    config.gradient_accumulation_steps = share // config.per_device_train_batch_size
