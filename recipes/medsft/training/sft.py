"""One arm from its options to its record: what LoRA, QLoRA and full fine-tuning share."""

import pickle
import time
from pathlib import Path
from typing import TYPE_CHECKING, cast

from transformers import IntervalStrategy

from medsft.arguments import StudyArguments
from medsft.config import parse, settings
from medsft.distributed import deepspeed_config, waiting
from medsft.errors import UserError
from medsft.memory import step_config
from medsft.models import loading
from medsft.patches import python
from medsft.patches.transformers import sft_config
from medsft.training import checkpoints, micro_batch
from medsft.training.callbacks.meter import Meter
from medsft.training.callbacks.stopping import StopEarly
from medsft.training.dataset import load_data
from medsft.training.option_checks import check_deepspeed, check_flash_adamw, check_in_backward
from medsft.training.record import forget_mapped_weights, record
from medsft.training.run_folder import ensure_split, open_arm, stamp
from medsft.training.saving import save
from medsft.training.setup import dev_answers
from medsft.training.setup.dev_answers import Scorer
from medsft.training.setup.disk import check_disk
from medsft.training.setup.rows_per_step import rows_per_step, spread
from medsft.training.summary import print_summary
from medsft.training.trainer import Adapters, RecipeTrainer, build_trainer

if TYPE_CHECKING:
    from trl import ModelConfig, SFTConfig

    Parsed = tuple[StudyArguments, SFTConfig, ModelConfig]


def parse_recipe(argv: list[str]) -> "Parsed":
    """The options of a training script. Raises UserError."""
    from trl import ModelConfig

    return cast("Parsed", parse([StudyArguments, sft_config(), ModelConfig], argv))


def train_arm(
    parsed: "Parsed", argv: list[str], saved_as: str, scorer: Scorer, adapters: Adapters | None = None
) -> RecipeTrainer | None:
    """Train one arm of a study: split, memory check, training, saved weights, train.json. None if it is done already.

    `saved_as`: 'adapter' or 'model', the folder of the trained weights. `scorer` is used where dev rows are to be
    answered. Raises UserError or DoesNotFit.
    """
    study, config, model_args = parsed
    spread(study, config, argv)
    check_deepspeed(config)
    check_in_backward(study, config)
    check_flash_adamw(study, config)
    ensure_split(study, config, argv)
    arm = open_arm(study, settings(parsed, argv), rows_per_step(config), config.should_save)
    if waiting.decided(config.process_index == 0, lambda: arm.done):
        print(f"already done: {arm.folder}/train.json")
        return None
    base = str(model_args.model_name_or_path)
    deepspeed_config.fit_to_machine(arm.folder, arm.fingerprint, config, loading.load_config(base), study)
    data = load_data(study, config.max_length, base, config.chat_template_path)
    step = step_config.of_recipe(study, config, model_args)
    mean, reserve = data.tokens / len(data.train), int(study.host_reserve_gb * 1e9)
    run = micro_batch.Run(study.strategy, base, config, step, data.longest, mean, reserve)
    if study.auto_batch:
        micro_batch.choose_micro_batch(arm, run)
    keeps = saved_as == "adapter" or study.keep_model
    with waiting.first(config.local_process_index == 0):  # the others find its traces in the cache
        if study.auto_speed:
            run = micro_batch.choose_for_speed(run, argv, grows=not study.auto_batch)
        if config.should_save:
            check_disk(arm.folder, run, keeps)
        predicted = micro_batch.check_memory(run, saves=keeps or config.save_strategy != "no")
        stamp(arm)

    with micro_batch.explained(arm, run, study.auto_batch), deepspeed_config.swap_space(config, base):
        trainer = build_trainer(str(arm.folder), data, study, config, model_args, adapters or {})
        trainer.dev_answers = dev_answers.of_study(study, data, scorer)
        forget_mapped_weights(trainer)
        print_summary(trainer, data, study, predicted)
        wall = train(trainer)
        if keeps:
            save(trainer, arm, data, saved_as)
        record(trainer, arm, study, data, base, predicted, wall)
    return trainer


def train(trainer: RecipeTrainer) -> float:
    """Train, from the newest valid checkpoint if there is one, and return the wall seconds of this run, with those that
    led to the checkpoint.

    Raises KeyboardInterrupt where a signal stopped it, DoesNotFit where host memory ran short, UserError where it
    diverged.
    """
    args = trainer.args
    checkpoint = checkpoints.resume_from(args)
    evaluates = IntervalStrategy(args.eval_strategy).value
    if checkpoint:  # a resumed run is past step 0
        args.eval_on_start = checkpoints.evaluation_left_out(Path(checkpoint), evaluates)
    if checkpoint and trainer.is_world_process_zero():
        print(f"continuing from {checkpoint}")
    started = time.monotonic()
    try:
        trainer.train(resume_from_checkpoint=checkpoint)
    except pickle.UnpicklingError as error:  # it has a valid manifest, and yet holds more than plain data
        raise UserError(f"{checkpoint} holds more than data; delete it, and the same command goes on") from error
    state = trainer.state
    last = checkpoints.newest(Path(str(args.output_dir))) if trainer.is_world_process_zero() else None
    rate = next((row["learning_rate"] for row in reversed(state.log_history) if "learning_rate" in row), 0.0)
    trainer.callback(StopEarly).raise_if_stopped(state.global_step, rate, last)
    evaluated = [row["step"] for row in state.log_history if "eval_loss" in row]
    if evaluates != "no" and evaluated[-1:] != [state.global_step] and not args.load_best_model_at_end:
        trainer.evaluate()  # the schedule of evaluations need not end on the last step
    return trainer.callback(Meter).wall + time.monotonic() - started


def end(trainer: RecipeTrainer) -> None:
    """Finish the trackers and shut down the process group; of several processes, each ends here with status 0."""
    if hasattr(trainer, "end"):  # since transformers 5.18
        trainer.end()
    if trainer.args.world_size > 1:
        python.exit_without_teardown()
