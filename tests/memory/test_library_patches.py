"""What tracing uses or replaces of other libraries is as it was when `library_patches` was written.

A failure here after an upgrade: read the new source, correct `library_patches`, then the digest below.
"""

import ast
import hashlib
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from medsft.memory.trace import deepspeed_patches, library_patches

# {file of an installed library: {function or class: first digits of the SHA-256 of its source}}
REPLACED = {
    "trl/kernels/chunked_logprob.py": {
        "_forward_tile": "d3c6dc9c0f77",
        "_backward_tile": "c9751567c484",
        "_addmm_fp32": "ad4712207aa7",
    },
    "trl/trainer/sft_trainer.py": {"SFTTrainer.compute_loss": "77b4ad106c73"},
    "peft/utils/integrations.py": {"dequantize_module_weight": "9050474b4841"},
    "transformers/integrations/deepspeed.py": {"is_deepspeed_zero3_enabled": "8969a2f9e605"},
    "transformers/modeling_utils.py": {"get_torch_context_manager_or_global_device": "d7f0d60088cc"},
    "deepspeed/comm/torch.py": {"build_shm_op": "5ee7daeb8dd5"},
    "deepspeed/runtime/zero/partition_parameters.py": {"zero_wrapper_for_fp_tensor_constructor": "19f8f8463f17"},
    "deepspeed/runtime/zero/utils.py": {
        "assert_ints_same_as_other_ranks": "50132da68b55",
        "assert_lst_len_same_as_other_ranks": "5ab1a1fd204d",
    },
    "deepspeed/runtime/zero/stage_1_and_2.py": {"DeepSpeedZeroOptimizer.has_overflow": "e75b22c11646"},
    "deepspeed/ops/adam/cpu_adam.py": {"DeepSpeedCPUAdam": "41e8a1deb689"},
    "bitsandbytes/nn/modules.py": {"Linear4bit.set_compute_type": "c64a01039bbd", "Linear4bit.forward": "6d41f286252b"},
    "bitsandbytes/functional.py": {"QuantState.__init__": "bf68d563167d"},
}
# attributes of DeepSpeed's optimizers that hold the engine's buffers
BUFFERS = {
    "deepspeed/runtime/zero/stage_1_and_2.py": [
        "bit16_groups_flat",
        "single_partition_of_fp32_groups",
        "round_robin_bit16_meta",
    ],
    "deepspeed/runtime/zero/stage3.py": [
        "fp16_partitioned_groups_flat",
        "fp16_partitioned_groups_flat_numel",
        "fp32_partitioned_groups_flat",
        "grad_partitions_flat_buffer",
        "lp_param_buffer",
    ],
}
# names that a module must look up itself for a replacement to be seen
LOOKED_UP = {
    "deepspeed/runtime/zero/partitioned_param_coordinator.py": "assert_ints_same_as_other_ranks(",
    "deepspeed/runtime/zero/linear.py": "get_accelerator()",
    "deepspeed/ops/adam/cpu_adam.py": "CPUAdamBuilder().load()",
    "peft/tuners/lora/dora.py": "dequantize_module_weight(base_layer)",
    "bitsandbytes/_ops.py": '"bitsandbytes::gemm_4bit"',
}


@cache
def text(file: str) -> str:
    """The source of an installed module, without importing it: DeepSpeed alone would take seven seconds."""
    package, _, rest = file.partition("/")
    spec = find_spec(package)
    assert spec is not None and spec.submodule_search_locations
    return (Path(spec.submodule_search_locations[0]) / rest).read_text(encoding="utf-8")


def definition(file: str, name: str) -> ast.AST:
    node: ast.AST = ast.parse(text(file))
    for part in name.split("."):
        kinds = ast.FunctionDef | ast.ClassDef
        node = next(n for n in ast.walk(node) if isinstance(n, kinds) and n.name == part)
    return node


@pytest.mark.parametrize(("file", "name"), [(file, name) for file, names in REPLACED.items() for name in names])
def test_what_is_replaced_has_not_changed(file, name):
    source = ast.get_source_segment(text(file), definition(file, name))
    assert source is not None
    assert hashlib.sha256(source.encode()).hexdigest()[:12] == REPLACED[file][name]


@pytest.mark.parametrize(("file", "name"), [(file, name) for file, names in BUFFERS.items() for name in names])
def test_the_engines_buffers_have_these_names(file, name):
    assert f"self.{name}" in text(file)


@pytest.mark.parametrize(("file", "call"), LOOKED_UP.items())
def test_the_library_still_makes_the_call_that_is_replaced(file, call):
    assert call in text(file)


def test_the_trainer_that_computes_the_loss_has_what_it_reads():
    body = definition("trl/trainer/sft_trainer.py", "SFTTrainer.compute_loss")
    read = {n.attr for n in ast.walk(body) if isinstance(n, ast.Attribute) and getattr(n.value, "id", "") == "self"}
    model = torch.nn.Linear(1, 1)
    model.config = SimpleNamespace()
    assert vars(library_patches.stand_in_trainer(model)).keys() == read


def test_tensors_are_fake_and_found_in_what_an_operator_returns():
    with library_patches.fake_tensors():
        made = torch.empty(10**6, 10**6)  # 4 TB
        parts = made.split(2 * 10**5)
    assert [t.shape[0] for t in library_patches.tensors_in({"all": (parts, None, 3)})] == [2 * 10**5] * 5
    assert library_patches.READ_VALUE is torch.ops.aten._local_scalar_dense.default


def test_replaced_names_must_exist_and_are_put_back():
    owner = SimpleNamespace(name="before")
    with library_patches.replaced((owner, "name", "within")):
        assert owner.name == "within"
    assert owner.name == "before"
    with pytest.raises(AttributeError), library_patches.replaced((owner, "renamed", 1)):
        pass


def test_only_a_large_product_of_nf4_needs_a_workspace():
    small, large = (torch.empty(tokens, 8, dtype=torch.bfloat16, device="meta") for tokens in (1536, 1537))
    assert library_patches.workspace("bitsandbytes.gemm_4bit.default", (small, None, (32, 8))) == 0
    assert library_patches.workspace("bitsandbytes.gemm_4bit.default", (large, None, (32, 8))) == 2 * 32 * 8
    assert library_patches.workspace("aten.mm.default", (large, None, (32, 8))) == 0


def test_a_gpus_dropout_keeps_a_byte_a_value():
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        for on_gpu in (True, False):
            kept.clear()
            with library_patches.dropout_of_device(on_gpu):
                out = torch.nn.Dropout(0.5)(torch.ones(64, requires_grad=True))
            assert set(out.tolist()) <= {0.0, 2.0}
            largest = max(t.element_size() for t in kept if t.numel() == 64)
            assert largest == (1 if on_gpu else 4)


def test_what_stands_in_for_kernels_does_nothing_and_a_constructor_casts():
    assert deepspeed_patches.NoKernel().load().create_adam(0, 1e-3) is None
    make = deepspeed_patches._in_dtype(torch.tensor, torch.bfloat16, torch.device("cpu"))
    assert make([1.0]).dtype == torch.bfloat16 and make([1]).dtype == torch.int64
