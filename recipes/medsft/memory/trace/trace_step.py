"""The true training step of one device on fake tensors: model class, adapters, TRL's loss, clipping, optimizer.

Where all layers of a model are alike the step of two layers and of three gives every other depth exactly: in each
stretch of the step (a layer's forward, its backward, the optimizer ...) memory is a linear function of their number.
"""

import contextlib
import warnings
from collections import defaultdict
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import torch

from medsft.errors import UserError
from medsft.memory.step_config import Step
from medsft.memory.trace import storage_tracker, trace_nf4
from medsft.memory.trace.storage_tracker import CUDA_BLOCK, StorageTracker
from medsft.memory.trace.trace_model import build
from medsft.models import answer_loss, lora_linear

Peaks = dict[str, dict[str, int]]


def trace(config: Any, step: Step, uniform: bool, peft_config: Any = None) -> Peaks:
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


def trace_layers(config: Any, step: Step, layers: int, peft_config: Any = None) -> Peaks:
    """As `trace`, of the first `layers` layers of the model, each of them traced."""
    tracker = StorageTracker(CUDA_BLOCK if step.on_gpu else 1)
    with warnings.catch_warnings(), _attention_masks(step), _kernels(step):
        warnings.simplefilter("ignore")
        model = build(config, step, layers, peft_config)
        with storage_tracker.fake_tensors(), storage_tracker.PlaceholderScalars(truth=True):
            states = trace_nf4.materialize(model)
            storage_tracker.materialize(model)
            tracker.assign([*model.parameters(), *model.buffers(), *states], "weights")
            _mark_layers(model, tracker, layers)
            run_steps(model, step, tracker, rounds=2 if step.own_loss else 1)
    return tracker.peaks


def run_steps(model: Any, step: Step, tracker: StorageTracker, rounds: int) -> None:
    """Forward, backward, clipping and optimizer step as the Trainer runs them, under the modes in force."""
    trainer: Any = stand_in_trainer(model)
    if not step.on_gpu:
        as_on_a_processor(model, step, trainer)
    optimizer = make_optimizer(model, step)
    trained = [p for p in model.parameters() if p.requires_grad]
    for parameter in trained:
        parameter.register_post_accumulate_grad_hook(lambda p: tracker.assign([p.grad], "gradients"))
    inputs = _inputs(step)
    tracker.assign(inputs.values(), "activations")
    with tracker:
        if rounds == 1:  # the optimizer's states, which exist from the end of the first step on
            tracker.category = "gradients"
            for parameter in trained:
                parameter.grad = torch.empty_like(parameter)
            _update(optimizer, tracker)
        for _ in range(rounds):
            loss, _outputs = _forward(model, trainer, inputs, step, tracker)
            tracker.category = "temporary"
            tracker.enter("backward/loss")
            loss.backward()
            del loss
            tracker.enter("clip")
            torch.nn.utils.clip_grad_norm_(trained, 1.0, foreach=True if step.on_gpu else None)
            _update(optimizer, tracker)


def _forward(
    model: Any, trainer: Any, inputs: dict[str, torch.Tensor], step: Step, tracker: StorageTracker
) -> tuple[torch.Tensor, Any]:
    """(loss, outputs): a plain loop holds its outputs, logits included, until the next step has made its own."""
    from trl import SFTTrainer

    tracker.category = "activations"
    tracker.enter("forward/before")
    count = torch.ones((), dtype=torch.long)
    with torch.autocast("cpu", dtype=torch.bfloat16) if step.autocast else contextlib.nullcontext():
        if step.own_loss:
            outputs = model(**inputs)
            return outputs.loss, outputs
        if trainer.answers_only:
            return model(**inputs, use_cache=False, fused_lm_head=True).loss / count, None
        return SFTTrainer.compute_loss(trainer, model, dict(inputs), num_items_in_batch=count), None


def _update(optimizer: torch.optim.Optimizer, tracker: StorageTracker) -> None:
    tracker.category = "temporary"
    tracker.enter("optimizer")
    optimizer.step()
    tracker.assign([v for state in optimizer.state.values() for v in state.values()], "optimizer")
    optimizer.zero_grad()


def _inputs(step: Step) -> dict[str, torch.Tensor]:
    """A full batch as TRL's collator makes it: padded rows with a mask, or one row of packed ones with positions."""
    shape = (1, step.batch * step.length) if step.packing else (step.batch, step.length)
    ids = torch.zeros(shape, dtype=torch.long)
    second = torch.ones_like(ids)
    if step.padded and not step.packing:
        second[0, -1] = 0  # one row is shorter than the others
    name = "position_ids" if step.packing else "attention_mask"
    return {"input_ids": ids, "labels": torch.zeros_like(ids), name: second}


def as_on_a_processor(model: Any, step: Step, trainer: Any) -> None:
    """The shorter ways of `training.build_trainer` where there is no GPU."""
    lora_linear.fuse(model)
    plain = model.get_base_model() if step.method != "full" else model
    trainer.answers_only = not step.own_loss and answer_loss.sum_over_answers(plain)


def stand_in_trainer(model: Any) -> Any:
    """The attributes of SFTTrainer that its compute_loss reads."""
    accelerator = SimpleNamespace(parallelism_config=None, num_processes=1, gather_for_metrics=lambda x: x)
    return SimpleNamespace(
        model=model,
        accelerator=accelerator,
        args=SimpleNamespace(loss_type="nll", average_tokens_across_devices=True),
        aux_loss_enabled=getattr(model.config, "output_router_logits", False),
        router_aux_loss_coef=getattr(model.config, "router_aux_loss_coef", 0.0),
        compute_loss_func=None,
        label_smoother=None,
        get_tp_size=lambda: 1,
        current_gradient_accumulation_steps=1,
        answers_only=False,
        _metrics=defaultdict(lambda: defaultdict(list)),
        _total_train_tokens=0,
        _tp_size=1,
    )


def make_optimizer(model: Any, step: Step) -> torch.optim.Optimizer:
    """The optimizer that transformers would make, over matrices and over the rest as the Trainer groups them."""
    from transformers import Trainer

    names = {"optim": step.optimizer, "optim_args": None, "learning_rate": 1e-4, "weight_decay": 0.0}
    names |= {"adam_beta1": 0.9, "adam_beta2": 0.999, "adam_epsilon": 1e-8, "optim_target_modules": None}
    kind, values = Trainer.get_optimizer_cls_and_kwargs(SimpleNamespace(**names), model)  # type: ignore[arg-type]
    plain = kind.__module__.startswith("torch.optim") and "fused" not in values
    if plain and step.on_gpu:
        values["foreach"] = True  # torch's own choice on CUDA
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [[p for p in trained if p.ndim > 1], [p for p in trained if p.ndim < 2]]
    return kind([{"params": group} for group in groups if group], **values)


def _mark_layers(model: Any, tracker: StorageTracker, layers: int) -> None:
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
        place = "first" if index == 0 else "last" if index == layers - 1 else "inner"

        def before(_module: Any, _args: Any, place: str = place) -> None:
            tracker.enter(f"{direction()}/{place}")

        def after(_module: Any, _args: Any, out: Any, place: str = place) -> None:
            if direction() == "forward" and place == "last":
                tracker.enter("forward/loss")
            hidden = out[0] if isinstance(out, tuple) else out
            if hidden.requires_grad:
                hidden.register_hook(lambda _gradient: tracker.enter(f"backward/{place}"))

        layer.register_forward_pre_hook(before)
        layer.register_forward_hook(after)


@contextlib.contextmanager
def _attention_masks(step: Step) -> Iterator[None]:
    """Without padding no mask is built; fake tensors cannot be asked for it, so transformers would build one.

    A cached prefix (prefix tuning) makes keys longer than queries, and then it needs one all the same.
    """
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS as MASKS

    if step.padded or step.packing:
        yield
        return
    original = MASKS[step.attention]

    def mask(*args: Any, q_length: int, kv_length: int, **kwargs: Any) -> Any:
        return None if q_length == kv_length else original(*args, q_length=q_length, kv_length=kv_length, **kwargs)

    MASKS[step.attention] = mask
    try:
        yield
    finally:
        del MASKS[step.attention]


@contextlib.contextmanager
def _kernels(step: Step) -> Iterator[None]:
    """On CUDA, TRL's Triton kernels fold logits in place; stand-ins take the temporaries of its CPU code away.

    How many positions are answers is no matter of shapes: here all of them are.

    Inside a run under ZeRO-3 the loss would gather the output head, which is whole here.
    """
    from transformers.integrations import deepspeed
    from trl.kernels import chunked_logprob

    names = ("_forward_tile", "_backward_tile", "_addmm_fp32") if step.on_gpu else ()
    whole = (deepspeed, "is_deepspeed_zero3_enabled", lambda: False)
    every = (answer_loss, "answers", lambda hidden, labels: (hidden.flatten(0, 1), labels.flatten()))
    with storage_tracker.replaced(
        whole, every, *((chunked_logprob, name, lambda *_args, **_kwargs: None) for name in names)
    ):
        yield
