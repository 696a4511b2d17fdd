"""The training step of one device on fake tensors: model class, adapters, TRL's loss, clipping, optimizer.

Where all layers of a model are alike, the step of two layers and of three gives every other depth exactly: in each
stretch of the step (a layer's forward, its backward, the optimizer ...) memory is a linear function of their number.
"""

import contextlib
import warnings
from types import SimpleNamespace
from typing import TYPE_CHECKING

import torch

from medsft.errors import UserError
from medsft.memory.step_config import FLASH, StepConfig
from medsft.memory.trace import library_patches, nf4
from medsft.memory.trace.model import build, materialize
from medsft.memory.trace.trackers import CUDA_BLOCK, Peaks, PlaceholderScalars, StorageTracker
from medsft.models import answer_loss, lora_linear
from medsft.models.flash_adamw import FlashStates
from medsft.models.optimizer_in_backward import BackwardOptimizer

if TYPE_CHECKING:
    from peft import PeftConfig
    from transformers import PreTrainedConfig, PreTrainedModel
    from trl import SFTTrainer


# torchao's compiled step does not run on fake tensors; its states are as large: two bytes and two float32 a 256 weights
TRACED_AS = {"adamw_torch_8bit": "adamw_bnb_8bit"}


def trace(
    config: "PreTrainedConfig", step: StepConfig, uniform: bool, peft_config: "PeftConfig | None" = None
) -> Peaks:
    """Bytes by category at the peak of each stretch of the step, for the model of `config`.

    `uniform`: its layers are all alike (`Sizes.uniform`). `peft_config` replaces the LoRA that `step` describes.
    Raises UserError, with the reason, where the model's code cannot be traced.
    """
    depth = config.get_text_config().num_hidden_layers
    try:
        if not uniform or depth < 4:
            return trace_layers(config, step, depth, peft_config)
        two, three = (trace_layers(config, step, layers, peft_config) for layers in (2, 3))
    except (UserError, MemoryError):
        raise
    except Exception as error:  # any library's code runs here; what it cannot do on fake tensors is not ours to list
        reason = f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"
        raise UserError(f"a training step of '{config.model_type}' cannot be traced ({reason[:300]})") from error
    return extended(two, three, depth)


def extended(two: Peaks, three: Peaks, depth: int) -> Peaks:
    """Peaks of `depth` layers from those of two and three; stretches of inner layers lie between the first and last."""
    return {
        stretch: {c: two[stretch][c] + (depth - 2) * (three[stretch][c] - two[stretch][c]) for c in two[stretch]}
        for stretch in two
    }


def highest(peaks: Peaks) -> tuple[str, dict[str, int]]:
    """(stretch, bytes by category) at the peak of the whole step."""
    stretch = max(peaks, key=lambda name: sum(peaks[name].values()))
    return stretch, {category: max(0, size) for category, size in peaks[stretch].items()}


def trace_layers(
    config: "PreTrainedConfig", step: StepConfig, layers: int, peft_config: "PeftConfig | None" = None
) -> Peaks:
    """As `trace`, of the first `layers` layers of the model, each of them traced."""
    tracker = StorageTracker(CUDA_BLOCK if step.on_gpu else 1)
    masks = library_patches.no_mask_without_padding(step.attention, step.padded or step.packing)
    # Which positions are answers depends on values, of which there are none: all of them are.
    answers = library_patches.replaced((answer_loss, "answers", lambda h, labels: (h.flatten(0, 1), labels.flatten())))
    dropout, loss = library_patches.dropout_of_device(step.on_gpu), library_patches.loss_of_one_device(step.on_gpu)
    with warnings.catch_warnings(), masks, dropout, loss, answers, library_patches.dora_on_nf4():
        warnings.simplefilter("ignore")
        model = build(config, step, layers, peft_config)
        with library_patches.fake_tensors(), PlaceholderScalars(truth=True):
            states = nf4.materialize(model)
            materialize(model)
            tracker.assign([*model.parameters(), *model.buffers(), *states], "weights")
            _name_stretches(model, tracker, layers)
            run_steps(model, step, tracker, rounds=2 if step.own_loss else 1)
    return tracker.peaks


def run_steps(model: "PreTrainedModel", step: StepConfig, tracker: StorageTracker, rounds: int) -> None:
    """Forward, backward, clipping and optimizer step as the Trainer runs them, under the modes in force."""
    trainer = library_patches.stand_in_trainer(model)
    answers_only = not step.on_gpu and _as_on_a_processor(model, step)
    optimizer = make_optimizer(model, step)
    trained = [p for p in model.parameters() if p.requires_grad]
    for parameter in () if step.in_backward else trained:
        parameter.register_post_accumulate_grad_hook(lambda p: tracker.assign([p.grad], "gradients"))
    inputs = _inputs(step)
    tracker.assign(inputs.values(), "activations")
    with tracker:
        if step.in_backward:
            rounds = 2  # the states come in the first
        elif rounds == 1:  # the optimizer's states, which exist from the end of the first step on
            tracker.category = "gradients"
            for parameter in trained:
                parameter.grad = torch.empty_like(parameter)
            _update(optimizer, tracker)
        for _ in range(rounds):
            for _micro_batch in range(2 if step.accumulates and not step.in_backward else 1):
                tracker.category = "activations"
                tracker.enter("forward/before")
                loss, _outputs = _forward(model, trainer, inputs, step, answers_only)
                tracker.category = "temporary"
                tracker.enter("backward/loss")
                loss.backward()
                del loss
            tracker.enter("clip")
            torch.nn.utils.clip_grad_norm_(trained, 1.0, foreach=True if step.on_gpu else None)
            _update(optimizer, tracker)


def _forward(
    model: "PreTrainedModel",
    trainer: "SFTTrainer",
    inputs: dict[str, torch.Tensor],
    step: StepConfig,
    answers_only: bool,
) -> tuple[torch.Tensor, object]:
    """(loss, outputs): a plain loop holds its outputs, logits included, until the next step has made its own."""
    from trl import SFTTrainer

    count = torch.ones((), dtype=torch.long)
    with torch.autocast("cpu", dtype=torch.bfloat16) if step.autocast else contextlib.nullcontext():
        if step.own_loss:
            outputs = model(**inputs)
            return outputs.loss, outputs
        if answers_only:
            return model(**inputs, use_cache=False, fused_lm_head=True).loss / count, None
        return SFTTrainer.compute_loss(trainer, model, dict(inputs), num_items_in_batch=count), None


def _update(optimizer: torch.optim.Optimizer, tracker: StorageTracker) -> None:
    tracker.category = "temporary"
    tracker.enter("optimizer")
    optimizer.step()
    parts = optimizer.parts if isinstance(optimizer, BackwardOptimizer) else [optimizer]
    states = [state for part in parts for state in part.state.values()]
    tracker.assign([value for state in states for value in state.values()], "optimizer")
    optimizer.zero_grad()


def _inputs(step: StepConfig) -> dict[str, torch.Tensor]:
    """A full batch as TRL's collator makes it: padded rows with a mask, or one row of packed ones with positions."""
    shape = (1, step.batch * step.length) if step.packing else (step.batch, step.length)
    ids = torch.zeros(shape, dtype=torch.long)
    second = torch.ones_like(ids)
    if step.padded and not step.packing:
        second[0, -1] = 0  # one row is shorter than the others
    name = "position_ids" if step.packing else "attention_mask"
    return {"input_ids": ids, "labels": torch.zeros_like(ids), name: second}


def _as_on_a_processor(model: "PreTrainedModel", step: StepConfig) -> bool:
    """Prepare `model` as `training.trainer` does without a GPU; True where the loss is that of the answers only."""
    lora_linear.fuse(model)
    plain = model.get_base_model() if step.method != "full" else model  # type: ignore[operator]
    return not step.own_loss and answer_loss.sum_over_answers(plain)


def make_optimizer(model: "PreTrainedModel", step: StepConfig) -> torch.optim.Optimizer:
    """The optimizer that transformers would make, over matrices and over the rest as the Trainer groups them."""
    from transformers import Trainer

    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [[p for p in trained if p.ndim > 1], [p for p in trained if p.ndim < 2]]
    given = [{"params": group} for group in groups if group]
    if step.optimizer == FLASH:
        return FlashStates(given)
    names = {
        "optim": TRACED_AS.get(step.optimizer, step.optimizer),
        "optim_args": None,
        "learning_rate": 1e-4,
        "weight_decay": 0.0,
    }
    names |= {"adam_beta1": 0.9, "adam_beta2": 0.999, "adam_epsilon": 1e-8, "optim_target_modules": None}
    kind, values = Trainer.get_optimizer_cls_and_kwargs(SimpleNamespace(**names), model)  # type: ignore[arg-type]
    plain = kind.__module__.startswith("torch.optim") and "fused" not in values
    if plain and step.on_gpu:
        values["foreach"] = True  # torch's own choice on CUDA
    return BackwardOptimizer(given, lambda g: kind(g, **values)) if step.in_backward else kind(given, **values)


def _name_stretches(model: "PreTrainedModel", tracker: StorageTracker, layers: int) -> None:
    """Name the stretches before, in the first, inner and last layers, and after them, in both directions."""
    stack = max(
        (m for m in model.modules() if isinstance(m, torch.nn.ModuleList) and len(m) == layers),
        key=lambda m: sum(p.numel() for p in m.parameters()),
        default=None,
    )
    if stack is None:
        raise UserError(f"no list of {layers} layers in '{model.config.model_type}'")

    def direction() -> str:
        return "backward" if tracker.category == "temporary" else "forward"

    for index, layer in enumerate(stack):
        position = "first" if index == 0 else "last" if index == layers - 1 else "inner"

        def before(_module: torch.nn.Module, _args: object, position: str = position) -> None:
            tracker.enter(f"{direction()}/{position}")

        def after(
            _module: torch.nn.Module, _args: object, out: torch.Tensor | tuple[torch.Tensor], position: str = position
        ) -> None:
            if direction() == "forward" and position == "last":
                tracker.enter("forward/loss")
            hidden = out[0] if isinstance(out, tuple) else out
            if hidden.requires_grad:
                hidden.register_hook(lambda _gradient: tracker.enter(f"backward/{position}"))

        layer.register_forward_pre_hook(before)
        layer.register_forward_hook(after)
