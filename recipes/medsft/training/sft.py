"""One arm from its options to its record: what LoRA, QLoRA and full fine-tuning share."""

import pickle
import shutil
import time
from pathlib import Path
from typing import Any

from transformers import EarlyStoppingCallback, GenerationConfig, ProgressCallback, set_seed

from medsft import manifest
from medsft.arguments import StudyArguments
from medsft.config import settings
from medsft.distributed import deepspeed_config
from medsft.errors import UserError
from medsft.hardware.malloc import keep_freed_memory, return_freed_memory
from medsft.memory import step_config
from medsft.models import answer_loss, loading, lora_linear
from medsft.patches import bitsandbytes, deepspeed, python
from medsft.tokenization import chat_template
from medsft.training import checkpoints, micro_batch
from medsft.training.callbacks import History, Meter, Watch
from medsft.training.dataset import Data, EndOfTurnUnsupervised, load_data
from medsft.training.preflight import check_memory
from medsft.training.progress import Progress
from medsft.training.record import record
from medsft.training.run_folder import Arm, ensure_split, open_arm
from medsft.training.summary import print_summary
from medsft.training.trainer import WatchedTrainer


def train_arm(
    parsed: tuple[StudyArguments, Any, Any], argv: list[str], saved_as: str, **adapters: Any
) -> WatchedTrainer | None:
    """Train one arm of a study: split, memory check, training, saved weights, train.json. None if it is done already.

    `parsed`: the run's StudyArguments, SFTConfig and ModelConfig. `saved_as`: 'adapter' or 'model', the folder of the
    trained weights. `adapters`: peft_config and quantization_config of LoRA and QLoRA. Raises UserError or DoesNotFit.
    """
    study, config, model_args = parsed
    ensure_split(study, config, argv)
    arm = open_arm(study, settings(parsed, argv), config.should_save)
    if arm.done:
        print(f"already done: {arm.folder}/train.json")
        return None
    base = model_args.model_name_or_path
    deepspeed_config.fit_to_machine(arm.folder, arm.fingerprint, config, loading.load_config(base), study)
    data = load_data(study, config.max_length, base, config.chat_template_path)
    step = step_config.of_recipe(study, config, model_args)
    this_run = micro_batch.Run(study.strategy, base, config, step, data.longest, int(study.host_reserve_gb * 1e9))
    if study.auto_batch:
        micro_batch.choose_micro_batch(arm, this_run)
    keeps = saved_as == "adapter" or study.keep_model
    predicted = check_memory(this_run, saves=keeps or config.save_strategy.value != "no")

    with micro_batch.explained(arm, this_run, study.auto_batch), deepspeed_config.swap_space(config, base):
        init = {"dtype": model_args.dtype, "attn_implementation": model_args.attn_implementation}
        trainer = build_trainer(arm, data, study, base, config, init, **adapters)
        print_summary(trainer, data, study, predicted)
        wall = train(trainer)
        if keeps:
            save(trainer, arm, data, saved_as)
        record(trainer, arm, study, data, base, predicted, wall)
    return trainer


def build_trainer(
    arm: Arm, data: Data, study: StudyArguments, base_model: str, config: Any, init: dict[str, Any], **adapters: Any
) -> WatchedTrainer:
    """TRL's SFTTrainer on this study's data. The model is given by name, so that ZeRO-3 can shard it while it loads."""
    if deepspeed_config.host_is_scarce(config):
        return_freed_memory()
    elif config.device.type == "cpu":
        keep_freed_memory()
    keep, config.save_total_limit = config.save_total_limit, None  # older checkpoints go when the new one is sealed
    config.output_dir = str(arm.folder)
    config.chat_template_path = None  # read already; TRL would read it again, over what was changed in it
    config.eval_on_start = config.eval_on_start and config.eval_strategy != "no"
    config.restore_callback_states_from_checkpoint = True
    config.model_init_kwargs = {**(config.model_init_kwargs or {}), **init, "use_safetensors": True}
    floor = int(study.host_floor_gb * 1e9) + deepspeed_config.bytes_of_a_save(config, base_model)
    watch = Watch(len(data.tokenizer), floor)
    callbacks = [Meter(), watch, History(), checkpoints.SealCheckpoints(keep)]
    if config.deepspeed_plugin:
        callbacks.append(deepspeed.CompleteResume())
    if study.early_stopping_patience is not None:
        callbacks.append(EarlyStoppingCallback(study.early_stopping_patience))
    set_seed(config.seed)  # before the adapters are drawn; the Trainer's own call comes too late for them
    place = loading.resolve(base_model)
    loading.check_weights(place)
    trainer = WatchedTrainer(
        model=place,
        args=config,
        train_dataset=data.train,
        eval_dataset=data.dev if config.eval_strategy != "no" else None,
        processing_class=data.tokenizer,
        callbacks=callbacks,
        **adapters,
    )
    if not config.disable_tqdm:
        trainer.remove_callback(ProgressCallback)
        trainer.add_callback(Progress())
    bitsandbytes.keep_trainable_layout(trainer.model)
    if adapters:  # TRL holds those on NF4 in bfloat16, which drops small updates, and the others in float32
        loading.cast_trained(trainer.model, study.adapter_dtype)
    if config.device.type == "cpu" and not (trainer.is_deepspeed_enabled or trainer.is_fsdp_enabled):
        lora_linear.fuse(trainer.model)
        plain = config.loss_type == "nll" and not config.label_smoothing_factor
        trainer.answers_only = plain and answer_loss.sum_over_answers(_without_adapters(trainer.model))
    if not study.end_of_turn_loss:
        stops = chat_template.stop_ids(data.tokenizer)
        trainer.data_collator = EndOfTurnUnsupervised(trainer.data_collator, stops)
    return trainer


def _without_adapters(network: Any) -> Any:
    return network.get_base_model() if hasattr(network, "get_base_model") else network


def train(trainer: WatchedTrainer) -> float:
    """Train, from the newest checkpoint that verifies if there is one, and return the wall seconds of this run.

    Raises KeyboardInterrupt where a signal stopped it, DoesNotFit where host memory ran short, UserError where it
    diverged.
    """
    args: Any = trainer.args
    checkpoint = checkpoints.resume_from(args)
    if checkpoint:  # step 0 is behind a run that goes on
        args.eval_on_start = checkpoints.evaluation_left_out(Path(checkpoint), args.eval_strategy.value)
    if checkpoint and trainer.is_world_process_zero():
        print(f"continuing from {checkpoint}")
    started = time.monotonic()
    try:
        trainer.train(resume_from_checkpoint=checkpoint)
    except pickle.UnpicklingError as error:  # sealed, and yet not plain data: it is not loaded
        raise UserError(f"{checkpoint} holds more than data; delete it, and the same command goes on") from error
    state = trainer.state
    last = checkpoints.newest(Path(str(args.output_dir))) if trainer.is_world_process_zero() else None
    rate = next((row["learning_rate"] for row in reversed(state.log_history) if "learning_rate" in row), 0.0)
    trainer.callback(Watch).raise_if_stopped(state.global_step, rate, last)
    evaluated = [row["step"] for row in state.log_history if "eval_loss" in row]
    if args.eval_strategy != "no" and evaluated[-1:] != [state.global_step] and not args.load_best_model_at_end:
        trainer.evaluate()  # the schedule of evaluations need not end on the last step
    return time.monotonic() - started


def save(trainer: WatchedTrainer, arm: Arm, data: Data, name: str) -> None:
    """Write `adapter/` or `model/` under a temporary name, then rename it: the folder is whole or absent."""
    temporary, final = arm.folder / f".{name}.tmp", arm.folder / name
    data.tokenizer.chat_template = data.saved_template
    if trainer.is_world_process_zero():
        shutil.rmtree(temporary, ignore_errors=True)
    checkpoints.wait_for_all(trainer.args)
    trainer.save_model(str(temporary))
    checkpoints.wait_for_all(trainer.args)
    if not trainer.is_world_process_zero():
        return
    data.tokenizer.save_pretrained(temporary)
    stopping(data.tokenizer).save_pretrained(temporary)
    manifest.seal(temporary, but=".md")  # a model card is filled in later
    if final.exists():
        shutil.rmtree(final)
    temporary.replace(final)


def stopping(tokenizer: Any) -> GenerationConfig:
    """Greedy generation that ends where the template ends a turn, for whoever serves the saved model."""
    return GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=sorted(chat_template.stop_ids(tokenizer)),
        pad_token_id=tokenizer.pad_token_id,
    )


def end(trainer: WatchedTrainer) -> None:
    """Finish the trackers and shut down the process group; of several processes, each ends here with status 0."""
    trainer.end()
    if trainer.args.world_size > 1:
        python.exit_without_teardown()
