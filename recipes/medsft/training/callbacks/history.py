"""The training history as history.csv in the arm's folder."""

import csv
import io
from pathlib import Path

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from medsft.files import write_text

COLUMNS = ["step", "epoch", "loss", "eval_loss", "learning_rate", "grad_norm"]
ANSWERED = ["eval_rougeL", "eval_rouge1", "eval_end_of_turn", "eval_loop"]  # where dev rows are answered


class History(TrainerCallback):
    """Writes the whole file at each log, so that the history of a resumed run has no gap and no row twice."""

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object) -> None:
        if not state.is_world_process_zero:
            return
        text = io.StringIO()
        answered = any(ANSWERED[0] in row for row in state.log_history)
        writer = csv.DictWriter(
            text, [*COLUMNS, *(ANSWERED if answered else [])], extrasaction="ignore", lineterminator="\n"
        )
        writer.writeheader()
        writer.writerows(row for row in state.log_history if "loss" in row or "eval_loss" in row)
        write_text(Path(str(args.output_dir)) / "history.csv", text.getvalue())
