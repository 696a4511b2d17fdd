"""DeepSpeed's own engine on fake tensors: what it keeps on the device, on the host and pinned, for any ranks.

    python -m medsft.memory.trace.trace_deepspeed '[{"config": {...}, "ranks": 1, "optimizer": "cpu", ...}]'

A process of its own, because it stands in for private parts of DeepSpeed: the device is PyTorch's 'meta', the host is
its 'cpu', the process group is fake, CPUAdam's kernel does nothing. All of the engine's own code runs: partitioning of
all layers, gathering, buckets, offload, its optimizer step. Only as many layers compute as it gathers at one time; what
each further one keeps is added by `zero_memory`. Prints a JSON list of {"device": {...}, "host": {...}, ...} in bytes.
"""

import json
import multiprocessing
import os
import sys
from typing import Any

ENVIRONMENT = {"DS_ACCELERATOR": "cpu", "RANK": "0", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1"}


def main() -> None:
    requests = json.loads(sys.argv[1])
    os.environ.update(ENVIRONMENT | {"WORLD_SIZE": str(requests[0]["ranks"]), "MASTER_PORT": "29578"})
    out, sys.stdout = sys.stdout, sys.stderr  # DeepSpeed talks on standard output
    import deepspeed  # noqa: F401 - what takes seven seconds to import is imported once, before the fork
    import torch._dynamo  # noqa: F401 - imported later, inside zero.Init, it fails with a signature mismatch
    import transformers  # noqa: F401
    from trl import SFTTrainer  # noqa: F401

    with multiprocessing.get_context("fork").Pool(min(2, len(requests))) as pool:
        print(json.dumps(pool.map(dry_run, requests, chunksize=1)), file=out)


def dry_run(request: dict[str, Any]) -> dict[str, Any]:
    """Peaks of one configuration.

    `config` (transformers' dict), `stage` of ZeRO (2 or 3), `ranks`, `optimizer` and `parameters` (where they live:
    'cpu' or 'none'), `zero` (further settings: sizes of buckets), `bf16_states`, `batch`, `length`, `checkpointing`,
    `on_gpu`, `device`, `layers` that compute.
    """
    from transformers import AutoConfig

    from medsft.memory.trace import storage_tracker
    from medsft.memory.trace.fake_deepspeed import stand_in
    from medsft.memory.trace.place_tracker import PlaceTracker

    stand_in(request["ranks"], request["on_gpu"])
    import deepspeed
    from transformers.integrations.deepspeed import HfDeepSpeedConfig

    values = dict(request["config"])
    config = AutoConfig.for_model(values.pop("model_type"), **values)
    settings = engine_settings(request)
    kept_alive = HfDeepSpeedConfig(settings)  # tells TRL's loss that the head has to be gathered
    tracker = PlaceTracker()
    deepspeed.get_accelerator().tracker = tracker
    with storage_tracker.fake_tensors(), tracker, storage_tracker.PlaceholderScalars(truth=False):
        engine = make_engine(config, request, settings)
        train(engine, request, tracker)
    del kept_alive
    return {
        "device": highest(tracker.device, "measured"),
        "host": highest(tracker.host, ""),
        "pinned": tracker.most_pinned,
        "pinned_rounding": tracker.most_rounding,
        "largest_group": max(getattr(engine.optimizer, "fp16_partitioned_groups_flat_numel", [0])),
    }


def highest(peaks: dict[str, dict[str, int]], begins: str) -> dict[str, int]:
    """Categories at the peak of the stretches whose names begin so; the last one where they are equal."""
    chosen = [peak for name, peak in peaks.items() if name.startswith(begins)]
    return max(reversed(chosen), key=lambda peak: sum(peak.values()))


def engine_settings(request: dict[str, Any]) -> dict[str, Any]:
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


def make_engine(config: Any, request: dict[str, Any], settings: dict[str, Any]) -> Any:
    import deepspeed
    import torch
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING
    from trl.trainer.utils import add_fused_lm_head

    network: Any = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
    config._attn_implementation = "sdpa"
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
        model.to = lambda *_args, **_kwargs: model
    engine, *_ = deepspeed.initialize(model=model, model_parameters=list(model.parameters()), config=settings)
    if not sharded:  # it keeps the shapes of its parameters in tensors on 'meta', which here is the device
        shapes: Any = engine.optimizer.round_robin_bit16_meta
        shapes[:] = [[torch.empty((), dtype=t.dtype).expand(t.shape) for t in group] for group in shapes]
    return engine


def train(engine: Any, request: dict[str, Any], tracker: Any) -> None:
    """A step over two layers that makes the optimizer's states, one over `layers` that the engine learns its order of
    gathering from, and the one that counts."""
    import torch
    from trl import SFTTrainer

    from medsft.memory.trace.trace_step import stand_in_trainer

    model, ids = (
        engine.module,
        torch.zeros((request["batch"], request["length"]), dtype=torch.long, device=request["device"]),
    )
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids}
    trainer: Any = stand_in_trainer(model)
    parent, name, layers = layer_list(model)
    for round_, depth in (("warm", 2), ("learning", request["layers"]), ("measured", request["layers"])):
        setattr(parent, name, torch.nn.ModuleList(list(layers)[:depth]))
        categorize(engine, tracker)
        tracker.category = "activations"
        tracker.enter(f"{round_}/forward")
        loss = SFTTrainer.compute_loss(trainer, engine, dict(inputs), num_items_in_batch=ids.new_ones(()))
        tracker.category = "temporary"
        tracker.enter(f"{round_}/backward")
        engine.backward(loss)
        tracker.enter(f"{round_}/step")
        engine.step()
        del loss


def layer_list(model: Any) -> tuple[Any, str, Any]:
    """(module, attribute, list) of the decoder's layers."""
    depth = model.config.get_text_config().num_hidden_layers
    for module in model.modules():
        for name, child in module.named_children():
            if type(child).__name__ == "ModuleList" and len(child) == depth:
                return module, name, child
    raise ValueError(f"no list of {depth} layers")


def categorize(engine: Any, tracker: Any) -> None:
    """Name the engine's buffers: weights, gradients, optimizer (master copy and moments)."""
    zero = engine.optimizer
    states = [v for state in zero.optimizer.state.values() for v in state.values()]
    tracker.assign([v for v in states if hasattr(v, "untyped_storage")], "optimizer")
    if engine.zero_optimization_stage() < 3:
        tracker.assign(zero.bit16_groups_flat, "weights")
        tracker.assign(zero.single_partition_of_fp32_groups, "optimizer")
        tracker.assign([p.grad for p in zero.single_partition_of_fp32_groups], "gradients")
        return
    tracker.assign([p.ds_tensor for p in engine.module.parameters()], "weights")
    tracker.assign(zero.fp16_partitioned_groups_flat, "weights")
    tracker.assign([getattr(zero, "lp_param_buffer", None)], "weights")
    tracker.assign(zero.fp32_partitioned_groups_flat, "optimizer")
    tracker.assign([p.grad for p in zero.fp32_partitioned_groups_flat], "gradients")
    tracker.assign([zero.grad_partitions_flat_buffer], "gradients")


if __name__ == "__main__":
    main()
