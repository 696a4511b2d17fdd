"""What LoRA, QLoRA and full fine-tuning share: the arm's folder, its data, its measures and its record."""

import resource
import shutil
import time
from pathlib import Path
from typing import Any, NamedTuple

import torch
import yaml
from transformers import set_seed
from transformers.trainer_utils import get_last_checkpoint
from trl import SFTTrainer

from medsft import chat_template, model
from medsft.allocator import keep_freed_memory
from medsft.arguments import DataArguments, StudyArguments
from medsft.callbacks import Meter, MeteredTrainer, StopOnSignal
from medsft.cli import UserError, config_path, parse
from medsft.files import fingerprint, read_json, write_json, write_text
from medsft.preparation import load_split, prepare
from medsft.versions import versions


class Arm(NamedTuple):
    """One way of training inside a study: its folder, the fingerprint of all that decides its result, if it is done."""

    folder: Path
    fingerprint: str
    settings: dict[str, Any]
    done: bool


class Data(NamedTuple):
    """The prepared rows as `messages`, and the tokenizer with its training template."""

    train: Any
    dev: Any
    tokenizer: Any
    template: str
    own_template: str | None
    answer_tokens: int
    tokens: int


def ensure_split(study: StudyArguments, config: Any, default_config: Path) -> None:
    """Prepare the study's split from the data.yaml beside the recipe in force, where it is not prepared yet."""
    if (Path(study.study_dir) / "data" / "data_report.json").exists():
        return
    beside = config_path(default_config).parent / "data.yaml"
    if not beside.exists():
        raise UserError(
            f"{study.study_dir}/data: not prepared; run: python recipes/prepare_data.py --study_dir {study.study_dir}"
        )
    with config.main_process_first(desc="preparing the split"):
        (data,) = parse([DataArguments], argv=["--config", str(beside), "--study_dir", study.study_dir])
        prepare(data)


def open_arm(study: StudyArguments, settings: dict[str, Any], is_main: bool) -> Arm:
    """Find out whether this arm is done, half done or new. Raises UserError where the folder holds another run."""
    folder = Path(study.study_dir) / study.arm
    data = read_json(Path(study.study_dir) / "data" / "data_report.json")
    decisive = {key: value for key, value in settings.items() if key not in ("study_dir", "disable_tqdm")}
    mark = fingerprint(decisive, data["fingerprint"], versions())
    record = folder / "train.json"
    if record.exists() and read_json(record)["fingerprint"] == mark:
        return Arm(folder, mark, settings, done=True)
    stamp = folder / "fingerprint"
    if stamp.exists() and stamp.read_text(encoding="utf-8").strip() != mark:
        raise UserError(
            f"{folder} holds a run with other settings, data or package versions; "
            f"choose another --arm, or delete the folder"
        )
    if is_main and not stamp.exists():
        write_text(folder / "config.yaml", yaml.safe_dump(settings, sort_keys=False))
        write_text(stamp, mark + "\n")
    return Arm(folder, mark, settings, done=False)


def load_data(study: StudyArguments, max_length: int | None, base_model: str, template_path: str | None) -> Data:
    """The study's split, ready for the trainer. Raises UserError where its answers would not fit `max_length`."""
    report = read_json(Path(study.study_dir) / "data" / "data_report.json")
    prepared = report["arguments"]["max_length"]
    if max_length is not None and max_length < report["tokens"]["train"]["max"]:
        raise UserError(
            f"max_length {max_length} would cut answers: {study.study_dir}/data was prepared for {prepared} tokens; "
            f"run prepare_data.py with --max_length {max_length}, or train with --max_length {prepared}"
        )
    tokenizer = model.load_tokenizer(base_model)
    own_template = tokenizer.chat_template
    template = chat_template.training_template(tokenizer, template_path)
    tokenizer.chat_template = template
    train, dev = load_split(study.study_dir, "train"), load_split(study.study_dir, "dev")
    train = train.select(range(min(len(train), study.max_train_rows or len(train))))
    dev = dev.select(range(min(len(dev), study.max_dev_rows or len(dev))))
    answer_tokens = sum(train["answer_tokens"])
    tokens = answer_tokens + sum(train["prompt_tokens"])
    return Data(
        train.select_columns("messages"),
        dev.select_columns("messages"),
        tokenizer,
        template,
        own_template,
        answer_tokens,
        tokens,
    )


def build_trainer(
    arm: Arm, data: Data, base_model: str, config: Any, init: dict[str, Any], **adapters: Any
) -> SFTTrainer:
    """TRL's SFTTrainer on this study's data. The model is given by name, so that ZeRO-3 can shard it while it loads."""
    if config.device.type == "cpu":
        keep_freed_memory()
    config.output_dir = str(arm.folder)
    config.eval_on_start = config.eval_on_start and config.eval_strategy != "no"
    config.restore_callback_states_from_checkpoint = True
    config.model_init_kwargs = {**(config.model_init_kwargs or {}), **init, "use_safetensors": True}
    set_seed(config.seed)  # before the adapters are drawn; the Trainer's own call comes too late for them
    return MeteredTrainer(
        model=model.resolve(base_model),
        args=config,
        train_dataset=data.train,
        eval_dataset=data.dev if config.eval_strategy != "no" else None,
        processing_class=data.tokenizer,
        callbacks=[Meter(), StopOnSignal()],
        **adapters,
    )


def train(trainer: SFTTrainer, arm: Arm) -> float:
    """Train, from the newest checkpoint if there is one, and return the wall seconds of this run.

    Raises KeyboardInterrupt where a signal stopped it; a checkpoint is written then.
    """
    checkpoint = get_last_checkpoint(str(arm.folder))
    if checkpoint and trainer.is_world_process_zero():
        print(f"continuing from {checkpoint}")
    started = time.monotonic()
    trainer.train(resume_from_checkpoint=checkpoint)
    if next(c for c in trainer.callback_handler.callbacks if isinstance(c, StopOnSignal)).received:
        raise KeyboardInterrupt
    evaluated = [row["step"] for row in trainer.state.log_history if "eval_loss" in row]
    if trainer.args.eval_strategy != "no" and evaluated[-1:] != [trainer.state.global_step]:
        trainer.evaluate()  # the schedule of evaluations need not end on the last step
    return time.monotonic() - started


def save(trainer: SFTTrainer, arm: Arm, data: Data, name: str) -> None:
    """Write `adapter/` or `model/` under a temporary name, then rename it: the folder is whole or absent."""
    temporary, final = arm.folder / f".{name}.tmp", arm.folder / name
    data.tokenizer.chat_template = data.own_template or chat_template.inference_template(data.template)
    trainer.save_model(str(temporary))
    trainer.accelerator.wait_for_everyone()
    if not trainer.is_world_process_zero():
        return
    data.tokenizer.save_pretrained(temporary)
    (temporary / "training_args.bin").unlink(missing_ok=True)  # a pickle; config.yaml says the same in the open
    if final.exists():
        shutil.rmtree(final)
    temporary.replace(final)


def record(
    trainer: SFTTrainer, arm: Arm, study: StudyArguments, base_model: str, predicted: dict[str, int], wall: float
) -> None:
    """Write train.json, the measures of this arm, as the last act: the arm counts as done once it is there."""
    meter = next(c for c in trainer.callback_handler.callbacks if isinstance(c, Meter))
    sums = _over_ranks(trainer, [meter.tokens, meter.answer_tokens, _peak_host_bytes()], "sum")
    device = _over_ranks(trainer, [_peak_device_bytes()], "max")[0]
    if not trainer.is_world_process_zero():
        return
    keep = ("step", "loss", "eval_loss", "learning_rate")
    history = [{k: row[k] for k in keep if k in row} for row in trainer.state.log_history]
    history = [row for row in history if "loss" in row or "eval_loss" in row]
    evals = [row for row in history if "eval_loss" in row]
    trainable, total = parameter_counts(trainer.model)
    write_json(
        arm.folder / "train.json",
        {
            "arm": study.arm,
            "base_model": base_model,
            "total_parameters": total,
            "trainable_parameters": trainable,
            "trainable_percent": round(100 * trainable / total, 4),
            "steps": trainer.state.global_step,
            "tokens_seen": sums[0],
            "answer_tokens_seen": sums[1],
            "wall_seconds": round(wall, 2),
            "tokens_per_second": round(sums[0] / meter.step_seconds, 2) if meter.step_seconds else None,
            "peak_memory": {"device_bytes": device, "host_bytes": sums[2]},
            "predicted_memory": predicted,
            "history": history,
            "best_step": min(evals, key=lambda row: row["eval_loss"])["step"] if evals else None,
            "seed": trainer.args.seed,
            "processes": trainer.args.world_size,
            "distributed": str(trainer.accelerator.distributed_type.value),
            "quantization": "nf4" if getattr(trainer.model, "is_loaded_in_4bit", False) else None,
            "settings": arm.settings,
            "versions": versions(),
            "fingerprint": arm.fingerprint,
        },
    )


def parameter_counts(network: Any) -> tuple[int, int]:
    """(trainable, total) logical parameters: sharded ones counted whole, 4-bit ones counted unpacked."""
    trainable = total = 0
    for parameter in network.parameters():
        size = getattr(parameter, "ds_numel", parameter.numel())
        if parameter.__class__.__name__ == "Params4bit":
            size = parameter.quant_state.shape.numel()
        trainable += size if parameter.requires_grad else 0
        total += size
    return trainable, total


def _over_ranks(trainer: SFTTrainer, values: list[int], how: str) -> list[int]:
    tensor = torch.tensor(values, dtype=torch.int64, device=trainer.args.device)
    return (
        [int(v) for v in trainer.accelerator.reduce(tensor, "sum").tolist()]
        if how == "sum"
        else [int(v) for v in trainer.accelerator.gather(tensor[None]).max(0).values.tolist()]
    )


def _peak_host_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # Linux counts in KiB


def _peak_device_bytes() -> int:
    return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
