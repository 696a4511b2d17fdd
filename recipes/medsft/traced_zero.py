"""DeepSpeed's own ZeRO-3 engine on fake tensors: what it keeps on the device, on the host and pinned, for any ranks.

    python -m medsft.traced_zero '[{"config": {...}, "ranks": 1, "optimizer": "cpu", "parameters": "cpu", ...}]'

A process of its own, because it stands in for private parts of DeepSpeed: the device is PyTorch's 'meta', the host is
its 'cpu', the process group is fake, CPUAdam's kernel does nothing. All of the engine's own code runs: partitioning of
all layers, gathering, buckets, offload, its optimizer step. Only as many layers compute as it gathers at one time; what
each further one keeps is added by `zero_memory`. Prints a JSON list of {"device": {...}, "host": {...}, ...} in bytes.
"""

import json
import os
import sys
import weakref
from typing import Any

ENVIRONMENT = {"DS_ACCELERATOR": "cpu", "RANK": "0", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1"}


def main() -> None:
    requests = json.loads(sys.argv[1])
    os.environ.update(ENVIRONMENT | {"WORLD_SIZE": str(requests[0]["ranks"]), "MASTER_PORT": "29578"})
    out, sys.stdout = sys.stdout, sys.stderr  # DeepSpeed talks on standard output
    print(json.dumps([dry_run(request) for request in requests]), file=out)


def dry_run(request: dict[str, Any]) -> dict[str, Any]:
    """Peaks of one configuration: `config` (transformers' dict), `ranks`, `optimizer` and `parameters` (where they
    live: 'cpu' or 'none'), `bf16_states`, `batch`, `length`, `checkpointing`, `on_gpu`, `layers` that compute.
    """
    import torch._dynamo  # noqa: F401 - imported later, inside zero.Init, it fails with a signature mismatch
    from transformers import AutoConfig

    from medsft import tracing

    stand_in(request["ranks"], request["on_gpu"])
    import deepspeed
    from transformers.integrations.deepspeed import HfDeepSpeedConfig

    values = dict(request["config"])
    config = AutoConfig.for_model(values.pop("model_type"), **values)
    settings = engine_settings(request)
    kept_alive = HfDeepSpeedConfig(settings)  # tells TRL's loss that the head has to be gathered
    tracker = place_tracker()
    deepspeed.get_accelerator().tracker = tracker
    with tracing.fake_tensors(), tracker, tracing.PlaceholderScalars(truth=False):
        engine = make_engine(config, request, settings)
        train(engine, request, tracker)
    del kept_alive
    return {
        "device": highest(tracker.device, "measured"),
        "host": highest(tracker.host, ""),
        "pinned_rounding": tracker.most_rounding,
        "largest_group": max(engine.optimizer.fp16_partitioned_groups_flat_numel),
    }


def highest(peaks: dict[str, dict[str, int]], begins: str) -> dict[str, int]:
    """Categories at the peak of the stretches whose names begin so; the last one where they are equal."""
    chosen = [peak for name, peak in peaks.items() if name.startswith(begins)]
    return max(reversed(chosen), key=lambda peak: sum(peak.values()))


def place_tracker() -> Any:
    """A dispatch mode that counts live bytes on the device and on the host."""
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves
    from torch.utils.weak import WeakIdKeyDictionary

    from medsft.tracing import CUDA_BLOCK

    class Tracker(TorchDispatchMode):
        """Live bytes by place and category. `rounding` is what torch's pinned allocator takes beyond the host's bytes:
        blocks of a power of two, kept after they are freed for requests of the same size."""

        def __init__(self) -> None:
            super().__init__()
            self.category, self.stretch, self.pinning = "other", "init", False
            self.live: dict[str, dict[str, int]] = {"device": {}, "host": {}}
            self.device: dict[str, dict[str, int]] = {}
            self.host: dict[str, dict[str, int]] = {}
            self.rounding = self.most_rounding = 0
            self._free_blocks: dict[int, int] = {}
            self._seen = WeakIdKeyDictionary()

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            out = func(*args, **(kwargs or {}))
            for leaf in tree_leaves(out):
                if hasattr(leaf, "untyped_storage"):
                    self.count(leaf)
            return out

        def count(self, tensor: Any) -> None:
            storage = tensor.untyped_storage()
            if storage in self._seen or storage.nbytes() == 0:
                return
            place = "device" if tensor.device.type == "meta" else "host"
            size = storage.nbytes()
            if place == "device":
                size = -(-size // CUDA_BLOCK) * CUDA_BLOCK
            pinned = place == "host" and self.pinning
            record = self._seen[storage] = [place, size, self.category, pinned]
            if pinned:
                block = 1 << (size - 1).bit_length()
                reused = self._free_blocks.get(block, 0) > 0
                self._free_blocks[block] = self._free_blocks.get(block, 0) - reused
                self.rounding += (0 if reused else block) - size
            self._add(place, self.category, size)
            weakref.finalize(storage, self._free, record)

        def assign(self, tensors: Any, category: str) -> None:
            for tensor in tensors:
                if tensor is None or tensor.untyped_storage() not in self._seen:
                    continue
                record = self._seen[tensor.untyped_storage()]
                self._add(record[0], record[2], -record[1])
                record[2] = category
                self._add(record[0], category, record[1])

        def enter(self, stretch: str) -> None:
            self.stretch = stretch
            for place in ("device", "host"):
                self._note(place)

        def _add(self, place: str, category: str, size: int) -> None:
            live = self.live[place]
            live[category] = live.get(category, 0) + size
            if size > 0:
                self._note(place)

        def _note(self, place: str) -> None:
            peaks: dict[str, dict[str, int]] = getattr(self, place)
            live = self.live[place]
            if sum(live.values()) > sum(peaks.get(self.stretch, {"": -1}).values()):
                peaks[self.stretch] = dict(live)
            self.most_rounding = max(self.most_rounding, self.rounding)

        def _free(self, record: list[Any]) -> None:
            place, size, category, pinned = record
            self.live[place][category] -= size
            if pinned:  # torch keeps the block: what was in use is now all overhead
                block = 1 << (size - 1).bit_length()
                self._free_blocks[block] = self._free_blocks.get(block, 0) + 1
                self.rounding += size

    return Tracker()


def engine_settings(request: dict[str, Any]) -> dict[str, Any]:
    """The DeepSpeed configuration that accelerate makes of our YAML; what it leaves out is DeepSpeed's default."""
    zero: dict[str, Any] = {"stage": 3, **request.get("buffers", {})}
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
    try:
        with deepspeed.zero.Init(config_dict_or_path=settings):
            model = network(config)
    finally:
        torch.set_default_dtype(torch.float32)
    model.config.use_cache = False
    if request["checkpointing"]:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    add_fused_lm_head(model, outputs=("log_probs", "entropy", "is_top1"))
    engine, *_ = deepspeed.initialize(model=model, model_parameters=list(model.parameters()), config=settings)
    return engine


def train(engine: Any, request: dict[str, Any], tracker: Any, device: str = "meta") -> None:
    """A step over two layers that makes the optimizer's states, one over `layers` that the engine learns its order of
    gathering from, and the one that counts."""
    import torch
    from trl import SFTTrainer

    from medsft.traced_step import stand_in_trainer

    model, ids = engine.module, torch.zeros((request["batch"], request["length"]), dtype=torch.long, device=device)
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
    tracker.assign([p.ds_tensor for p in engine.module.parameters()], "weights")
    tracker.assign(zero.fp16_partitioned_groups_flat, "weights")
    tracker.assign([getattr(zero, "lp_param_buffer", None)], "weights")
    tracker.assign(zero.fp32_partitioned_groups_flat, "optimizer")
    tracker.assign([p.grad for p in zero.fp32_partitioned_groups_flat], "gradients")
    tracker.assign([zero.grad_partitions_flat_buffer], "gradients")
    states = [v for state in zero.optimizer.state.values() for v in state.values()]
    tracker.assign([v for v in states if hasattr(v, "untyped_storage")], "optimizer")


def stand_in(ranks: int, on_gpu: bool) -> None:
    """The fake process group and accelerator, and CPUAdam without its kernel. Once a process."""
    import torch
    import torch.distributed as dist
    from torch.testing._internal.distributed.fake_pg import FakeStore

    if dist.is_initialized():
        return
    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=ranks)
    import deepspeed
    import transformers.modeling_utils
    from deepspeed.accelerator import set_accelerator
    from deepspeed.accelerator.cpu_accelerator import CPU_Accelerator
    from deepspeed.ops.adam import cpu_adam
    from deepspeed.runtime.zero import linear, partitioned_param_coordinator, utils
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    class FakeAccelerator(CPU_Accelerator):
        """Device memory is 'meta', host memory is 'cpu'; pinning copies into a block of its own."""

        tracker: Any = None

        def device_name(self, device_index: int | None = None) -> str:
            return "meta"

        current_device_name = current_device = device_name

        def on_accelerator(self, tensor: Any) -> bool:
            return tensor.device.type == "meta"

        def pin_memory(self, tensor: Any, *_args: Any, **_kwargs: Any) -> Any:
            self.tracker.pinning = True
            try:
                return tensor.clone()
            finally:
                self.tracker.pinning = False

        def is_pinned(self, tensor: Any) -> bool:
            return False

        def pin_empty(self, *_args: Any, **_kwargs: Any) -> Any:
            raise NotImplementedError

    class NoKernel:
        def load(self) -> Any:
            return self

        def __getattr__(self, name: str) -> Any:
            return lambda *_args: None

    def flash(
        module: Any, q: Any, k: Any, v: Any, mask: Any, dropout: float = 0.0, scaling: Any = None, **_: Any
    ) -> Any:
        # on 'meta' torch's own choice would be the variant that keeps all scores
        out = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q, k, v, 0.0, True, scale=scaling)[0]
        return out.transpose(1, 2).contiguous(), None

    real = CPU_Accelerator()
    set_accelerator(FakeAccelerator())
    cpu_adam.CPUAdamBuilder = NoKernel
    linear.get_accelerator = lambda: real
    for module in (partitioned_param_coordinator, utils):
        for name in ("assert_ints_same_as_other_ranks", "assert_lst_len_same_as_other_ranks"):
            if hasattr(module, name):
                setattr(module, name, lambda *_args, **_kwargs: None)
    transformers.modeling_utils.get_torch_context_manager_or_global_device = lambda: torch.device("meta")
    ALL_MASK_ATTENTION_FUNCTIONS.register("sdpa", lambda *_args, **_kwargs: None)
    ALL_ATTENTION_FUNCTIONS.register("sdpa", flash)
    from trl.kernels import chunked_logprob

    autocast = torch.is_autocast_enabled
    torch.is_autocast_enabled = lambda device="cpu": device != "meta" and autocast(device)  # type: ignore
    # On a processor TRL folds the logits in PyTorch, with temporaries of their own; on CUDA in a kernel.
    for name in ("_forward_tile", "_backward_tile", "_addmm_fp32") if on_gpu else ():
        setattr(chunked_logprob, name, lambda *_args, **_kwargs: None)
    deepspeed.init_distributed("gloo")


if __name__ == "__main__":
    main()
