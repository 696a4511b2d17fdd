"""TRL's SFTTrainer on a study's data, with the callbacks and the losses of these recipes."""

from typing import TYPE_CHECKING, TypedDict, TypeVar

import torch
from peft import PeftModel
from transformers import EarlyStoppingCallback, ProgressCallback, TrainerCallback, set_seed
from transformers.trainer_pt_utils import LengthGroupedSampler
from trl import SFTTrainer

from medsft.arguments import StudyArguments
from medsft.distributed import deepspeed_config, wrapping
from medsft.hardware.malloc import keep_freed_memory, return_freed_memory
from medsft.models import answer_loss, flash_adamw, grouped_attention, loading, lora_linear
from medsft.models.optimizer_in_backward import BackwardOptimizer
from medsft.patches import accelerate, bitsandbytes, deepspeed, transformers
from medsft.tokenization import chat_template
from medsft.training.callbacks.history import History
from medsft.training.callbacks.meter import Meter
from medsft.training.callbacks.progress import Progress
from medsft.training.callbacks.stopping import StopEarly
from medsft.training.checkpoints import CheckpointManifests
from medsft.training.dataset import Data, EndOfTurnUnsupervised
from medsft.training.setup.dev_answers import DevAnswers
from medsft.training.setup.row_order import EpochSampler

if TYPE_CHECKING:
    from datasets import Dataset
    from peft import PeftConfig
    from torch.utils.data import DataLoader, Sampler
    from transformers import BitsAndBytesConfig, PreTrainedModel
    from transformers.modeling_outputs import ModelOutput
    from transformers.trainer_utils import EvalLoopOutput
    from trl import ModelConfig, SFTConfig

C = TypeVar("C", bound=TrainerCallback)


class Adapters(TypedDict, total=False):
    """What LoRA and QLoRA add to SFTTrainer's arguments; empty for full fine-tuning."""

    peft_config: "PeftConfig | None"
    quantization_config: "BitsAndBytesConfig | None"


class RecipeTrainer(SFTTrainer):
    """TRL's trainer, which also counts what it trains on, checks its losses and can compute them over answers only."""

    args: "SFTConfig"
    model: "PreTrainedModel"
    train_dataset: "Dataset"
    answers_only = False  # the model computes its loss by answer_loss
    steps_in_backward = False
    uses_flash_adamw = False
    dev_answers: DevAnswers | None = None

    def training_step(
        self, model: torch.nn.Module, inputs: dict[str, torch.Tensor], *args: object, **kwargs: object
    ) -> torch.Tensor:
        self.callback(Meter).count(inputs)
        loss = super().training_step(model, inputs, *args, **kwargs)
        self.callback(StopEarly).add_loss(loss)
        return loss

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, torch.Tensor],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> "torch.Tensor | tuple[torch.Tensor, ModelOutput]":
        """Mean over answer tokens in nats: by answer_loss where `answers_only` is set, else by TRL."""
        if not self.answers_only or return_outputs:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        outputs = model(**{**inputs, "use_cache": False}, fused_lm_head=True)
        count = outputs.label_mask.sum() if num_items_in_batch is None else num_items_in_batch
        together = self.args.average_tokens_across_devices and num_items_in_batch is not None
        return outputs.loss / max(int(count), 1) * (self.accelerator.num_processes if together else 1)

    def evaluate(
        self,
        eval_dataset: "Dataset | dict[str, Dataset] | None" = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> dict[str, float]:
        """Evaluate without using training's random numbers, so that a resumed run sees the same rows.

        Nor are dev rows drawn to batches by the run's seed, as transformers does where rows are grouped by length: the
        loss is a mean over batches, and that of one untrained model was 4.64, 4.69 and 4.65 under three seeds.
        """
        devices = [self.args.device] if self.args.device.type == "cuda" else []
        strategy, self.args.train_sampling_strategy = self.args.train_sampling_strategy, "sequential"
        try:
            with torch.random.fork_rng(devices):
                return super().evaluate(eval_dataset, ignore_keys, metric_key_prefix)
        finally:
            self.args.train_sampling_strategy = strategy

    def evaluation_loop(
        self,
        dataloader: "DataLoader",
        description: str,
        prediction_loss_only: bool | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> "EvalLoopOutput":
        """The dev loss, and beside it how the model answers a few dev rows, where that is asked for."""
        found = super().evaluation_loop(dataloader, description, prediction_loss_only, ignore_keys, metric_key_prefix)
        if self.dev_answers is not None:
            network = self.accelerator.unwrap_model(self.model)
            args = self.args
            answered = self.dev_answers.measure(network, args.process_index, args.world_size, args.device)
            named = {f"{metric_key_prefix}_{name}": value for name, value in answered.items()}
            return found._replace(metrics={**(found.metrics or {}), **named})
        return found

    def create_optimizer(self, model: torch.nn.Module | None = None) -> torch.optim.Optimizer:
        """As the Trainer makes it; FlashAdamW, or stepped by the backward pass, where the recipe says so."""
        made: torch.optim.Optimizer = super().create_optimizer(model)
        if not (self.uses_flash_adamw or self.steps_in_backward):
            return made  # which under DeepSpeed may be accelerate's stand-in
        groups = [{key: group[key] for key in ("params", "weight_decay")} for group in made.param_groups]
        if self.uses_flash_adamw:
            rate, betas = self.args.learning_rate, (self.args.adam_beta1, self.args.adam_beta2)
            self.optimizer = made = flash_adamw.make(groups, rate, betas, self.args.adam_epsilon)
        else:
            kind, values = self.get_optimizer_cls_and_kwargs(self.args, self.model)
            self.optimizer = made = BackwardOptimizer(groups, lambda given: kind(given, **values))
        return made

    def callback(self, kind: type[C]) -> C:
        """The callback of this class; looked up each time, because resuming replaces those that keep a state."""
        return next(c for c in self.callback_handler.callbacks if isinstance(c, kind))


def build_trainer(
    folder: str, data: Data, study: StudyArguments, config: "SFTConfig", model_args: "ModelConfig", adapters: Adapters
) -> RecipeTrainer:
    """The trainer of the arm in `folder`. The model is given by name, so that ZeRO-3 can shard it while it loads."""
    base_model = str(model_args.model_name_or_path)
    on_cpu = config.device.type == "cpu"
    if deepspeed_config.host_is_scarce(config):
        return_freed_memory()
    elif on_cpu:
        keep_freed_memory()
    callbacks = _callbacks(data, study, config, base_model)
    _complete(config, folder, model_args)
    if adapters:
        _complete_for_adapters(config)
    accelerate.unwrap_without_deepspeed()
    set_seed(config.seed)  # before the adapters are drawn; the Trainer's own call comes too late for them
    path = loading.resolve(base_model)
    loading.check_weights(path)
    max_length = config.max_length
    if config.padding_free and not config.packing:
        config.max_length = None  # TRL cuts no rows that lie end to end; all are within it (`dataset.load_data`)
    trainer = RecipeTrainer(
        model=path,
        args=config,
        train_dataset=data.train,
        eval_dataset=data.dev if config.eval_strategy != "no" else None,
        processing_class=data.tokenizer,
        callbacks=callbacks,
        **adapters,
    )
    config.max_length = max_length
    transformers.replace_sampler(trainer, lambda sampler: _by_epoch(sampler, config))
    if trainer.eval_dataset is not None:
        trainer.eval_dataset = longest_first(trainer.eval_dataset)
    trainer.steps_in_backward, trainer.uses_flash_adamw = study.optimizer_in_backward, study.flash_adamw
    if not config.disable_tqdm:
        trainer.remove_callback(ProgressCallback)
        trainer.add_callback(Progress())
    wrapping.keep_loss_in_float32(trainer.accelerator)
    bitsandbytes.keep_trainable_layout(trainer.model)
    if adapters:  # TRL keeps those on NF4 in bfloat16, which drops small updates, and the others in float32
        loading.cast_trained(trainer.model, study.adapter_dtype)
    network = trainer.model.get_base_model() if isinstance(trainer.model, PeftModel) else trainer.model
    loading.freeze_unread(network)
    if on_cpu:
        grouped_attention.use(network)
    if on_cpu and not (trainer.is_deepspeed_enabled or trainer.is_fsdp_enabled):
        lora_linear.fuse(trainer.model)
        plain = config.loss_type == "nll" and not config.label_smoothing_factor
        trainer.answers_only = plain and answer_loss.sum_over_answers(network)
    if not study.end_of_turn_loss:
        stops = chat_template.stop_ids(data.tokenizer)
        trainer.data_collator = EndOfTurnUnsupervised(trainer.data_collator, stops)
    return trainer


def longest_first(rows: "Dataset") -> "Dataset":
    """Tokenized rows by falling length, so that those of a batch are about as long as each other."""
    lengths = [len(ids) for ids in rows["input_ids"]]
    return rows.select(sorted(range(len(rows)), key=lambda i: lengths[i], reverse=True))


def _by_epoch(sampler: "Sampler[int]", config: "SFTConfig") -> "Sampler[int]":
    if not isinstance(sampler, LengthGroupedSampler):
        return sampler
    return EpochSampler(sampler.lengths, sampler.batch_size * config.world_size, config.seed)


def _callbacks(data: Data, study: StudyArguments, config: "SFTConfig", base_model: str) -> list[TrainerCallback]:
    floor = int(study.host_floor_gb * 1e9) + deepspeed_config.bytes_of_a_save(config, base_model)
    manifests = CheckpointManifests(config.save_total_limit)
    found: list[TrainerCallback] = [Meter(), StopEarly(len(data.tokenizer), floor), History(), manifests]
    if config.deepspeed_plugin is not None:
        found.append(deepspeed.CompleteResume())
    if study.early_stopping_patience:
        found.append(EarlyStoppingCallback(study.early_stopping_patience))
    return found


def _complete(config: "SFTConfig", folder: str, model_args: "ModelConfig") -> None:
    """Set what follows from the study, and switch off what is done here instead."""
    config.save_total_limit = None  # older checkpoints are deleted once the new one has its manifest
    config.output_dir = folder
    config.chat_template_path = None  # read already; TRL would read it again and undo the changes
    config.eval_on_start = config.eval_on_start and config.eval_strategy != "no"
    config.restore_callback_states_from_checkpoint = True
    model = {"dtype": model_args.dtype, "attn_implementation": model_args.attn_implementation}
    given = config.model_init_kwargs if isinstance(config.model_init_kwargs, dict) else {}
    config.model_init_kwargs = {**given, **model, "use_safetensors": True}


def _complete_for_adapters(config: "SFTConfig") -> None:
    """Make activation checkpointing work with adapters on several GPUs.

    Under DDP transformers looks for unused parameters of a PeftModel, which fails with checkpointing at the first
    backward pass ("marked as ready twice"); no adapter is ever unused. ZeRO-3 needs reentrant checkpointing: otherwise
    the recomputed weights have other shapes than the gathered ones.
    """
    if config.ddp_find_unused_parameters is None:
        config.ddp_find_unused_parameters = False
    if deepspeed_config.zero_stage(config) == 3 and config.activation_checkpointing:
        kwargs = config.activation_checkpointing_kwargs
        config.activation_checkpointing_kwargs = {**(kwargs if isinstance(kwargs, dict) else {}), "use_reentrant": True}
