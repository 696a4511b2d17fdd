"""The memory plan: what fits which machine, and what must never shrink."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import JambaConfig, LlamaConfig

from medsft.errors import DoesNotFit, UserError
from medsft.hardware import specs
from medsft.memory import peaks, plan_records, planner
from medsft.memory.step_config import StepConfig
from medsft.memory.strategies import STRATEGIES, applies
from medsft.memory.trace import cache
from medsft.memory.trace.cache import traced_beside
from medsft.models.parameter_counts import count_parameters, known_config, sizes_of
from medsft.training import micro_batch

MISTRAL = "mistralai/Mistral-7B-Instruct-v0.2"
TINY = LlamaConfig(
    vocab_size=1000,
    hidden_size=64,
    intermediate_size=128,
    num_hidden_layers=3,
    num_attention_heads=4,
    num_key_value_heads=2,
)
MIDDLING = LlamaConfig(
    vocab_size=8000, hidden_size=512, intermediate_size=1024, num_hidden_layers=4, num_attention_heads=8
)
HERE = specs.machine(".")
A100 = specs.described(HERE, "a100-80gb", 1, "167GB", "2TB")
LAPTOP = specs.described(HERE, "none", None, "24GB", "100GB")
RANKS = (1, 2, 8)
OPTIMIZER_OFFLOAD = "full_zero3_optimizer_offload"
DRY_RUNS = [  # an independent one of the engine, one row, smaller buckets: device GB (1 GB less), host GB exact, pinned
    (OPTIMIZER_OFFLOAD, 16.7, 130.4, 138.4),
    ("full_zero3_offload", 4.1, 144.8, 171.7),
    ("full_zero3_offload_bf16", 4.1, 86.9, 111.1),
]


@pytest.fixture(scope="module")
def mistral():
    return known_config(MISTRAL)


def runs_of(config, hardware, batch, length, names=tuple(STRATEGIES)):
    """The dry runs of DeepSpeed's engine that these strategies need."""
    sizes, step = sizes_of(config), StepConfig(batch=batch, length=length, on_gpu=hardware.gpus > 0)
    chosen = [STRATEGIES[n] for n in names if applies(n, hardware.gpus) and STRATEGIES[n].engine.startswith("zero")]
    return [(config, peaks.engine_config(strategy, sizes, step, hardware)) for strategy in chosen]


def test_a_row_of_the_plan_has_the_keys_that_others_read():
    for row in planner.strategies(TINY, LAPTOP, 2, 32):
        assert set(row) == set(plan_records.PlanRow.__annotations__)


@pytest.fixture(scope="module")
def engines(mistral):
    """All dry runs of this file, in one process beside this one: the imports of DeepSpeed take longer than small runs.

    What is not here is tried out when it is asked for. A minute on two idle cores the first time, then from the cache.
    """
    ranks = [run for n in RANKS for run in runs_of(TINY, specs.described(A100, gpus=n), 2, 32, [OPTIMIZER_OFFLOAD])]
    one_row = runs_of(mistral, A100, 1, 512, [name for name, *_ in DRY_RUNS])
    small = runs_of(TINY, LAPTOP, 2, 64) + runs_of(MIDDLING, A100, 2, 64)
    with traced_beside([*runs_of(mistral, A100, 4, 512), *one_row, *small, *ranks]):
        pass


@pytest.fixture(scope="module")
def plan(engines, mistral):
    return {row["name"]: row for row in planner.strategies(mistral, A100, 4, 512, lora_r=16)}


@pytest.mark.parametrize(
    ("name", "device", "host", "pinned"),
    DRY_RUNS,
)
@pytest.mark.slow
def test_deepspeeds_engine(engines, mistral, name, device, host, pinned):
    (row,) = planner.strategies(mistral, A100, 1, 512, own=name, only_own=True, lora_r=16)
    beside = row["host_bytes_by"]["process"] + row["host_bytes_by"]["save"]
    assert (row["host_bytes"] - beside) / 1e9 == pytest.approx(host, rel=0.001)
    assert (row["host_bytes_pinned"] - beside) / 1e9 == pytest.approx(pinned, rel=0.001)
    categories = ("weights", "gradients", "optimizer", "activations", "temporary")
    assert device - 0.6 <= sum(row["device_bytes"][c] for c in categories) / 1e9 <= device + 1.6


@pytest.mark.slow
def test_the_study_and_its_machine(mistral, plan):
    assert not plan["full_fp32"]["fits"] and "GPU memory" in plan["full_fp32"]["reason"]
    for name in ("lora", "qlora", "full", "full_8bit", "full_zero3_optimizer_offload", "full_zero3_offload"):
        assert plan[name]["fits"], name
        assert plan[name]["largest_micro_batch"] >= 4
    row = plan["full_nvme"]
    assert row["disk_bytes"] > 16 * count_parameters(mistral)
    assert row["host_bytes"] < plan["full_zero3_offload_bf16"]["host_bytes"]
    seconds = {name: row["seconds_per_step"] for name, row in plan.items()}
    assert 0 < seconds["lora"] < seconds["full"] < seconds["full_zero3_offload"] < seconds["full_nvme"]
    with pytest.raises(DoesNotFit, match=r"needs 126.2 GB of GPU memory.*what fits: lora, qlora, full"):
        planner.check_fits(planner.predict("full_fp32", mistral, A100, 4, 512, lora_r=16), A100, 0, list(plan.values()))
    busy = replace(A100, device_available_bytes=10 * 10**9, host_available_bytes=75 * 10**9)
    with pytest.raises(DoesNotFit, match=r"what fits: qlora, full_nvme$"):  # only what fits what is free is offered
        planner.check_fits(
            planner.predict("lora", mistral, busy, 4, 512, lora_r=16), busy, 0, lambda: list(plan.values())
        )
    for machine, recommended in [
        (("a100-80gb", 1, "167GB", "2TB"), "lora"),
        (("h200", 1, "167GB", "2TB"), "full_fp32"),
        (("l4", 1, "64GB", "500GB"), "lora"),
        (("t4", 1, "64GB", "500GB"), "qlora"),
        (("t4", 1, "4GB", "500GB"), None),
    ]:
        there = specs.described(HERE, *machine)
        name, reason = planner.recommend(planner.strategies(mistral, there, 4, 512, lora_r=16), there)
        assert name == recommended and (name or "needs" in reason)


@pytest.mark.slow
def test_more_ranks_hold_less_each(engines):
    per_rank = [
        planner.predict(OPTIMIZER_OFFLOAD, TINY, specs.described(A100, gpus=n), 2, 32, lora_r=4)["traced_bytes"]
        for n in RANKS
    ]
    assert per_rank[0] > per_rank[1] > per_rank[2]


@pytest.mark.slow
def test_without_a_gpu_the_host_holds_everything(engines):
    rows = {row["name"]: row for row in planner.strategies(TINY, LAPTOP, 2, 64, lora_r=8)}
    for row in rows.values():
        assert row["host_bytes"] >= sum(row["device_bytes"].values()) == row["host_bytes_by"]["training"]
        assert row["host_bytes_pinned"] == row["host_bytes"] == sum(row["host_bytes_by"].values())
    predicted = planner.predict("full", TINY, LAPTOP, 2, 64, lora_r=8)
    assert predicted["device_bytes"] == 0 and predicted["host_bytes"] == rows["full"]["host_bytes"]
    assert rows["full"]["accelerate_config"] == "cpu.yaml"
    assert rows["full_nvme"]["accelerate_config"] == "zero3_nvme.yaml"
    small = specs.described(LAPTOP, disk="1MB")
    row = next(r for r in planner.strategies(TINY, small, 2, 64, lora_r=8) if r["name"] == "full_nvme")
    assert not row["fits"] and "disk" in row["reason"]


@pytest.mark.slow
@settings(max_examples=3, deadline=None)
@given(
    st.sampled_from(["lora", "qlora", "full", "full_8bit"]), st.integers(1, 4), st.sampled_from([16, 48, 100]),
    st.sampled_from([4, 8]), st.booleans(),
)  # fmt: skip
def test_never_shrinks_with_batch_length_or_rank(name, batch, length, r, checkpointing):
    small = planner.predict(name, TINY, A100, batch, length, lora_r=r, checkpointing=checkpointing)
    for rows, tokens, rank in ((batch + 1, length, r), (batch, length + 16, r), (batch, length, r + 4)):
        large = planner.predict(name, TINY, A100, rows, tokens, lora_r=rank, checkpointing=checkpointing)
        assert large["device_bytes"] >= small["device_bytes"] and large["host_bytes"] >= small["host_bytes"]


@pytest.mark.slow
def test_offload_never_raises_device_memory(engines):
    found = planner.strategies(MIDDLING, A100, 2, 64, lora_r=8)
    # without the allocator's slack, which is larger where an engine gathers and releases
    rows = {r["name"]: sum(r["device_bytes"].values()) - r["device_bytes"]["other"] for r in found}
    for name in ("full_zero3_optimizer_offload", "full_zero3_offload", "full_zero3_offload_bf16", "full_nvme"):
        # DeepSpeed's reduce bucket is 1 GB whatever the model: small models pay for it
        assert rows[name] - int(1.03 * 1e9) <= rows["full_fp32"]
    assert rows["full_zero3_offload"] <= rows["full_zero3_optimizer_offload"] + int(1.03 * 2 * peaks.LIVE_PARAMETERS)


def test_largest_micro_batch_is_the_largest(monkeypatch):
    monkeypatch.setattr(planner, "STRATEGIES", {"full": STRATEGIES["full"]})  # no engine is needed for the others

    def needs(batch):
        return planner.predict("full", TINY, A100, batch, 64, lora_r=4, checkpointing=False)["device_bytes"]

    tight = replace(A100, device_bytes=needs(24))
    (row,) = planner.strategies(TINY, tight, 2, 64, lora_r=4, checkpointing=False)
    largest = row["largest_micro_batch"]
    assert needs(largest) <= tight.device_bytes < needs(largest + 2)


def test_check_fits_says_what_is_missing():
    planner.check_fits({"device_bytes": 10**9, "host_bytes": 10**9}, A100, 2 * 10**9)
    with pytest.raises(DoesNotFit, match=r"host memory and 20.0 GB to spare, has 24.0 GB.*plan_memory"):
        planner.check_fits({"device_bytes": 0, "host_bytes": 5 * 10**9}, LAPTOP, 20 * 10**9)


@pytest.fixture
def without_deepspeed(monkeypatch, tmp_path):
    """A machine on which DeepSpeed's engine cannot be run, and nothing is kept of other runs."""
    monkeypatch.setenv("MEDSFT_CACHE", str(tmp_path))
    monkeypatch.setattr(cache.sys, "executable", "/bin/false")


def test_an_engine_that_cannot_be_run_takes_no_other_strategy_away(without_deepspeed):
    among = ("full", "full_zero3_offload", "full_fsdp2_offload")
    rows = {row["name"]: row for row in planner.strategies(TINY, A100, 1, 8, among=among)}
    assert rows["full"]["fits"] and rows["full_fsdp2_offload"]["fits"]
    failed = rows["full_zero3_offload"]
    assert not failed["fits"] and "DeepSpeed's engine cannot be tried out for 'llama'" in failed["reason"]
    assert set(failed) == set(plan_records.PlanRow.__annotations__)
    assert planner.recommend(list(rows.values()), A100)[0] == "full_fsdp2_offload"
    small = replace(A100, host_bytes=10**9, device_bytes=10**6)
    none = planner.strategies(TINY, small, 1, 8, among=among)
    assert "needs" in planner.recommend(none, small)[1]  # of one whose needs are known
    for alone in (
        lambda: planner.predict("full_zero3_offload", TINY, A100, 1, 8),
        lambda: planner.strategies(TINY, A100, 1, 8, among=("full_zero3_offload",)),
    ):
        with pytest.raises(UserError, match="DeepSpeed's engine cannot be tried out"):
            alone()


def test_what_does_not_fit_is_said_where_nothing_else_can_be_traced(tmp_path, monkeypatch):
    def untraced(*_args):
        raise UserError("a training step of 'new' cannot be traced")

    with pytest.raises(DoesNotFit, match=r"host memory and 20.0 GB to spare, has 24.0 GB.*plan_memory.py shows"):
        planner.check_fits({"device_bytes": 0, "host_bytes": 5 * 10**9}, LAPTOP, 20 * 10**9, untraced)
    monkeypatch.setattr(micro_batch, "cheaper", untraced)
    run = SimpleNamespace(config=SimpleNamespace(per_device_train_batch_size=4, max_length=64))
    arm = SimpleNamespace(folder=tmp_path)
    told = pytest.raises(DoesNotFit, match="host memory ran out.*step of 'new' cannot be traced")
    with told, micro_batch.explained(arm, run, auto_batch=False):
        raise MemoryError


def host_of(name, gpus, **step):
    (row,) = planner.strategies(TINY, specs.described(A100, gpus=gpus), 1, 8, own=name, only_own=True, **step)
    return row["host_bytes_by"], row["device_bytes"]


def test_paged_states_are_counted_for_each_process():
    paged = {"optimizer": "paged_adamw_8bit"}
    one, device = host_of("full_8bit", 1, **paged)
    assert host_of("full_8bit", 4, **paged)[0]["optimizer"] == 4 * one["optimizer"] == 4 * device["optimizer"]


@pytest.mark.parametrize(
    ("name", "step", "bytes_a_weight"),
    [
        ("full_fp32", {}, 4),
        ("lora", {"dtype": "float16", "autocast": False}, 2),
        ("lora", {"dtype": "bfloat16"}, 0),  # read as it lies on the disk
        ("qlora", {"dtype": "float32"}, 0),  # packed weight by weight
    ],
)
def test_weights_are_converted_on_the_host_by_each_process(name, step, bytes_a_weight):
    n = count_parameters(TINY)
    assert host_of(name, 4, **step)[0].get("loading", 0) == 4 * bytes_a_weight * n
    assert "loading" not in host_of(name, 1, **step)[0]


def test_fsdp2_gathers_the_root_and_the_largest_layers_of_a_mixed_stack():
    jamba = JambaConfig(hidden_size=64, intermediate_size=96, num_attention_heads=4, vocab_size=100, num_experts=4,
                        num_hidden_layers=4, num_key_value_heads=2, expert_layer_offset=1)  # fmt: skip
    sizes = sizes_of(jamba)
    live = dict.fromkeys(peaks.DEVICE, 0)
    device, _ = peaks.fsdp2_bytes(sizes, {"forward/first": live, "backward/loss": live}, 1)
    root = 2 * 100 * 64 + 64  # embedding, head and the last norm
    assert device["weights"] == 2 * (root + 2 * sizes.layer) and device["gradients"] == 4 * sizes.layer


def test_unknown_strategy_is_named():
    with pytest.raises(UserError, match="unknown strategy 'dora'"):
        planner.predict("dora", TINY, A100, 1, 8, lora_r=4)
