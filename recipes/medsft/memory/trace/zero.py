"""DeepSpeed's own engine on fake tensors: what it keeps on the device, on the host and pinned, for any ranks.

    python -m medsft.memory.trace.zero '[{"config": {...}, "ranks": 1, "optimizer": "cpu", ...}]'

A process of its own, because it replaces private parts of DeepSpeed (`library_patches`): the device is PyTorch's
'meta', the host is its 'cpu', the process group is fake, CPUAdam's kernel does nothing. All of the engine's own code
runs: partitioning of all layers, gathering, buckets, offload, its optimizer step. Only as many layers compute as it
gathers at one time; what each further one keeps is added by `peaks`. Prints a JSON list of
`EnginePeaks`, or of reasons.
"""

import gc
import json
import multiprocessing
import os
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Protocol, cast

from medsft.memory.trace import deepspeed_patches, library_patches

if TYPE_CHECKING:
    import torch
    from deepspeed import DeepSpeedEngine
    from transformers import PreTrainedConfig, PreTrainedModel

    from medsft.memory.step_config import EngineConfig, EnginePeaks
    from medsft.memory.trace.trackers import Peaks

ENVIRONMENT = {
    "DS_ACCELERATOR": "cpu", "RANK": "0", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29578",
}  # fmt: skip


class Tracker(Protocol):
    """What `train` tells of the step as it goes on."""

    category: str

    def enter(self, stretch: str) -> None: ...

    def assign(self, tensors: "Iterable[torch.Tensor | None]", category: str) -> None: ...


def main() -> None:
    requests: list[EngineConfig] = json.loads(sys.argv[1])
    os.environ.update(ENVIRONMENT)
    out, sys.stdout = sys.stdout, sys.stderr  # DeepSpeed talks on standard output
    deepspeed_patches.import_engine()
    gc.disable()  # a tenth of the time; what a short dry run leaves behind is small
    # one process for each: what it replaces, and its process group, are for good
    with multiprocessing.get_context("fork").Pool(min(2, len(requests)), maxtasksperchild=1) as pool:
        print(json.dumps(pool.map(tried, requests, chunksize=1)), file=out)


def tried(request: "EngineConfig") -> "EnginePeaks | str":
    """The peaks of one configuration; the reason where it cannot be run, which other configurations may be."""
    try:
        return dry_run(request)
    except Exception as error:  # any library's code runs here
        return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"


def dry_run(request: "EngineConfig") -> "EnginePeaks":
    """Peaks of one configuration, of the third step of training."""
    from transformers import AutoConfig
    from transformers.integrations.deepspeed import HfDeepSpeedConfig

    from medsft.memory.trace.trackers import DeviceHostTracker, PlaceholderScalars

    os.environ["WORLD_SIZE"] = str(request["ranks"])
    tracker = DeviceHostTracker()
    deepspeed_patches.stand_in_devices(request["ranks"], request["on_gpu"], tracker)
    values = dict(request["config"])
    config = AutoConfig.for_model(values.pop("model_type"), **values)
    settings = engine_settings(request)
    kept_alive = HfDeepSpeedConfig(settings)  # while it lives TRL's loss gathers the head
    with library_patches.fake_tensors(), tracker, PlaceholderScalars(truth=False):
        engine = make_engine(config, request, settings)
        train(engine, request, tracker)
    del kept_alive
    return {
        "device": highest(tracker.peaks["device"], "measured"),
        "host": highest(tracker.peaks["host"], ""),
        "pinned": tracker.most_pinned,
        "pinned_rounding": tracker.most_rounding,
        "largest_group": deepspeed_patches.largest_group(engine),
    }


def highest(peaks: "Peaks", begins: str) -> dict[str, int]:
    """Categories at the peak of the stretches whose names begin so; the last one where they are equal."""
    chosen = [peak for name, peak in peaks.items() if name.startswith(begins)]
    return max(reversed(chosen), key=lambda peak: sum(peak.values()))


def engine_settings(request: "EngineConfig") -> dict[str, Any]:
    """The DeepSpeed configuration that accelerate makes of our YAML; what it leaves out is DeepSpeed's default."""
    zero: dict[str, Any] = {"stage": request["stage"], **request["zero"]}
    for key, place in (("offload_optimizer", request["optimizer"]), ("offload_param", request["parameters"])):
        if place != "none":
            zero[key] = {"device": place, "pin_memory": True}
    half = {"bf16_master_weights_and_grads": request["bf16_states"], "bf16_optimizer_states": request["bf16_states"]}
    plain: dict[str, Any] = {} if request["optimizer"] == "cpu" else {"torch_adam": True}
    return {
        "train_micro_batch_size_per_gpu": request["batch"],
        "gradient_accumulation_steps": 1,
        "gradient_clipping": 1.0,
        "steps_per_print": 10**9,
        "bf16": {"enabled": True, **half},
        "zero_optimization": zero,
        "optimizer": {"type": "AdamW", "params": {"lr": 1e-4, **plain}},
    }


def make_engine(config: "PreTrainedConfig", request: "EngineConfig", settings: dict[str, Any]) -> "DeepSpeedEngine":
    """The engine around the model of `config`, as accelerate starts it; the model is as TRL prepares it."""
    import deepspeed
    import torch
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING
    from trl.trainer.utils import add_fused_lm_head

    network = cast("type[PreTrainedModel]", MODEL_FOR_CAUSAL_LM_MAPPING[type(config)])
    library_patches.use_sdpa(config)
    torch.set_default_dtype(torch.bfloat16)
    sharded = request["stage"] == 3
    try:
        with deepspeed.zero.Init(config_dict_or_path=settings) if sharded else torch.device(request["device"]):
            model = network(config)
    finally:
        torch.set_default_dtype(torch.float32)
    model.config.use_cache = False
    if request["checkpointing"]:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    add_fused_lm_head(model, outputs=("log_probs", "entropy", "is_top1"))
    if not sharded:  # it is where it should be; fake tensors refuse to be swapped
        model.to = lambda *_args, **_kwargs: model  # type: ignore[assignment]
    engine, *_ = deepspeed.initialize(model=model, model_parameters=list(model.parameters()), config=settings)
    if not sharded:
        deepspeed_patches.keep_shapes_off_the_device(engine)
    return engine


def train(engine: "DeepSpeedEngine", request: "EngineConfig", tracker: Tracker) -> None:
    """A step over two layers that makes the optimizer's states, one over `layers` that the engine learns its order of
    gathering from, and the one that counts."""
    import torch
    from trl import SFTTrainer

    model = engine.module
    ids = torch.zeros((request["batch"], request["length"]), dtype=torch.long, device=request["device"])
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids}
    trainer = library_patches.stand_in_trainer(model)
    parent, name, layers = layer_list(model)
    for round_, depth in (("warm", 2), ("learning", request["layers"]), ("measured", request["layers"])):
        setattr(parent, name, torch.nn.ModuleList(list(layers)[:depth]))
        for category, tensors in deepspeed_patches.buffers_of(engine):
            tracker.assign(tensors, category)
        tracker.category = "activations"
        tracker.enter(f"{round_}/forward")
        loss = SFTTrainer.compute_loss(trainer, engine, dict(inputs), num_items_in_batch=ids.new_ones(()))
        tracker.category = "temporary"
        tracker.enter(f"{round_}/backward")
        engine.backward(loss)
        tracker.enter(f"{round_}/step")
        engine.step()
        del loss


def layer_list(model: "PreTrainedModel") -> "tuple[torch.nn.Module, str, torch.nn.ModuleList]":
    """(module, attribute, list) of the decoder's layers. Raises ValueError for a model without such a list."""
    import torch

    depth = model.config.get_text_config().num_hidden_layers
    for module in model.modules():
        for name, child in module.named_children():
            if isinstance(child, torch.nn.ModuleList) and len(child) == depth:
                return module, name, child
    raise ValueError(f"no list of {depth} layers")


if __name__ == "__main__":
    main()
