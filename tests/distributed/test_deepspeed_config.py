"""DeepSpeed's settings from machine and model, refusals, the strategy that `make fft` picks, the disk's speed."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from transformers import LlamaConfig

from conftest import RECIPES, ROOT
from medsft.arguments import StudyArguments
from medsft.distributed import deepspeed_config, deepspeed_ops
from medsft.errors import DoesNotFit, UserError
from medsft.files import read_json, write_json
from medsft.hardware import disk_benchmark
from medsft.hardware.specs import described, machine
from medsft.memory import launch_command
from medsft.memory.strategies import ORDER, STRATEGIES, recipe_of
from medsft.models.parameter_counts import Sizes, known_config, sizes_of

MISTRAL: Any = known_config("mistralai/Mistral-7B-Instruct-v0.2")
FOLDER = RECIPES / "configs" / "mistral_7b"


@given(
    parameters=st.integers(10**6, 10**11),
    host=st.integers(8 * 10**9, 2 * 10**12),
    ranks=st.integers(1, 16),
)
def test_buffers_follow_the_machine(parameters: int, host: int, ranks: int) -> None:
    sizes = Sizes(parameters, (), parameters // 32, 32, 4096, 32000, True)
    chosen = deepspeed_config.zero_settings(sizes, host, ranks)
    assert 10**7 <= chosen["sub_group_size"] <= 10**9
    assert 5 * 4 * chosen["sub_group_size"] * ranks <= max(0.05 * host, 20 * 10**7 * ranks)
    assert chosen["reduce_bucket_size"] <= 3 * 10**8
    assert 1 <= deepspeed_config.aio_settings(cpus=ranks, ranks=ranks)["intra_op_parallelism"] <= 8


def run_of(device: str, parameters: str = "cpu", stage: int = 3) -> Any:
    """An SFTConfig as far as it is looked at, with accelerate's DeepSpeed configuration in it."""
    places = {"offload_optimizer": {"device": device, "nvme_path": None}, "offload_param": {"device": parameters}}
    notified: list[Any] = []
    plugin = SimpleNamespace(deepspeed_config={"zero_optimization": {"stage": stage, **places}})
    plugin.set_deepspeed_weakref = lambda: notified.append(1)
    return SimpleNamespace(
        deepspeed_plugin=plugin,
        use_cpu=True,
        world_size=1,
        should_save=True,
        notified=notified,
        local_process_index=0,
        process_index=0,
    )


def fitted(folder: Path, config: Any, **study: Any) -> dict[str, Any]:
    architecture = LlamaConfig(vocab_size=500, hidden_size=64, intermediate_size=128, num_hidden_layers=2,
                               num_attention_heads=4)  # fmt: skip
    deepspeed_config.fit_to_machine(folder, "0123456789abcdef0123", config, architecture, StudyArguments(**study))
    return config.deepspeed_plugin.deepspeed_config


def test_the_configuration_is_completed_and_what_the_user_named_stays(tmp_path: Path) -> None:
    config = run_of("cpu")
    config.deepspeed_plugin.deepspeed_config["zero_optimization"]["reduce_bucket_size"] = 12345
    zero = fitted(tmp_path, config)["zero_optimization"]
    assert zero["reduce_bucket_size"] == 12345
    assert zero["sub_group_size"] == 10**7
    assert zero["offload_optimizer"]["pin_memory"] is False  # no GPU to copy to
    assert config.notified  # from_pretrained shards by a copy


def test_a_second_start_keeps_the_buffers_of_the_first(tmp_path: Path) -> None:
    write_json(tmp_path / "engine.json", {"zero": {"sub_group_size": 777, "reduce_bucket_size": 5}})
    assert fitted(tmp_path, run_of("cpu"))["zero_optimization"]["sub_group_size"] == 777


def test_nvme_gets_io_settings_and_a_folder_of_its_own(tmp_path: Path) -> None:
    settings = fitted(tmp_path, run_of("nvme"), nvme_path=str(tmp_path / "fast"))
    assert settings["aio"]["block_size"] == 2**20
    assert settings["zero_optimization"]["offload_optimizer"]["nvme_path"] == str(tmp_path / "fast/0123456789abcdef")


def test_bf16_states_are_asked_for_by_an_explicit_optimizer(tmp_path: Path) -> None:
    settings = fitted(tmp_path, run_of("cpu"), bf16_states=True)
    assert settings["bf16"]["bf16_optimizer_states"] is True
    assert settings["optimizer"]["params"]["fp32_optimizer_states"] is False
    with pytest.raises(UserError, match="bf16_states is an option of DeepSpeed"):
        plain = SimpleNamespace(deepspeed_plugin=None)
        deepspeed_config.fit_to_machine(tmp_path, "", plain, MISTRAL, StudyArguments(bf16_states=True))


def test_pinned_buffers_are_exact_where_memory_may_be_locked(monkeypatch: pytest.MonkeyPatch) -> None:
    here = described(machine("."), "a100-80gb", 1, "167GB")
    for limit, backend in ((2**63, "native"), (2**23, None)):
        monkeypatch.setattr(deepspeed_config, "lockable", lambda limit=limit: limit)
        monkeypatch.delenv("DS_PIN_MEMORY_BACKEND", raising=False)
        settings: dict[str, Any] = {"zero_optimization": {"offload_optimizer": {"device": "cpu"}}}
        deepspeed_config.pin(settings, sizes_of(MISTRAL).parameters, here, on_gpu=True)
        assert os.environ.pop("DS_PIN_MEMORY_BACKEND", None) == backend
        # 58 GB pinned could become 116 by rounding: more than half of this host
        assert settings["zero_optimization"]["offload_optimizer"]["pin_memory"] is (backend == "native")


def test_too_little_disk_or_lockable_memory_is_said_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DoesNotFit, match=r"keeps 1600000 GB there"):
        deepspeed_config.check_swap_space(tmp_path, 10**14, 10**8)
    monkeypatch.setattr(deepspeed_config, "lockable", lambda: 8 * 2**20)
    with pytest.raises(UserError, match="ulimit -l unlimited"):
        deepspeed_config.check_swap_space(tmp_path, 10**7, 10**7)


def test_lockable_reads_the_capability(tmp_path: Path) -> None:
    status = tmp_path / "status"
    status.write_text("Name:\tx\nCapEff:\t000001fffeffffff\n")
    assert deepspeed_config.lockable(status) == 2**63
    status.write_text("CapEff:\t0000000000000000\n")
    assert deepspeed_config.lockable(status) >= 0


def test_small_shared_memory_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(deepspeed_config.shutil, "disk_usage", lambda _: SimpleNamespace(total=64 * 2**20))
    deepspeed_config.check_shared_memory(1, tmp_path)
    with pytest.raises(UserError, match="--shm-size"):
        deepspeed_config.check_shared_memory(2, tmp_path)


def test_disk_speed_leaves_nothing_behind(tmp_path: Path) -> None:
    speed = disk_benchmark.measure(tmp_path, most=4 * disk_benchmark.BLOCK, seconds=2)
    assert min(speed) > 10**6 and max(speed) < 10**12
    assert not list(tmp_path.iterdir())


# ---- the strategies --------------------------------------------------------------------------------------------------


AMPLE = described(machine("."), "h200", 1, "2TB", "100TB")


def plan(folder: Path, fits: set[str], gpus: int = 1) -> Path:
    needs = {"device_bytes": {"weights": 14 * 10**9}, "host_bytes": 10**9, "disk_bytes": 10**9}
    rows = [
        {"name": n, "fits": n in fits, "accelerate_config": STRATEGIES[n].config or "single_gpu.yaml", **needs}
        for n in STRATEGIES
    ]
    write_json(folder / "plan.json", {"hardware": {"gpus": gpus}, "strategies": rows})
    return folder


@pytest.fixture
def _compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch_command, "missing_tools", list)


@pytest.mark.usefixtures("_compiler")
@pytest.mark.parametrize("name", [n for n in ORDER if n.startswith("full")])
def test_every_strategy_of_the_plan_has_its_recipe_and_launch_line(tmp_path: Path, name: str) -> None:
    line = launch_command.command(FOLDER, plan(tmp_path, {name, "lora"}), AMPLE)
    recipe = Path(line.split()[-1])
    assert recipe == recipe_of(FOLDER, name)
    assert recipe.is_file()
    assert STRATEGIES[name].config in line
    head = recipe.read_text()
    assert STRATEGIES[name].config in head or "accelerate launch recipes/sft_full.py" in head


@pytest.mark.usefixtures("_compiler")
def test_the_recommended_strategy_is_the_first_that_fits(tmp_path: Path) -> None:
    assert launch_command.choose(FOLDER, plan(tmp_path, {"full_8bit", "full_nvme", "full_zero3_offload"}), AMPLE)[
        0
    ] == ("full_zero3_offload")
    assert launch_command.choose(FOLDER, plan(tmp_path, {"lora"}), AMPLE) == ("full_8bit", "single_gpu.yaml")
    assert launch_command.choose(FOLDER, tmp_path / "none", AMPLE)[0] == "full_8bit"
    assert launch_command.choose(RECIPES / "configs" / "demo", tmp_path / "none", AMPLE) == ("full", "cpu.yaml")
    with pytest.raises(UserError, match="no recipe for full fine-tuning"):
        launch_command.choose(tmp_path, tmp_path, AMPLE)


def test_offload_is_passed_over_where_its_operators_cannot_be_compiled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    study = plan(tmp_path, {"full_zero3_offload", "full_fsdp2_offload", "full_8bit"})
    monkeypatch.setattr(launch_command, "missing_tools", lambda: ["g++ (apt-get install g++)"])
    assert launch_command.choose(FOLDER, study, AMPLE)[0] == "full_fsdp2_offload"
    assert "full_zero3_offload: passed over, DeepSpeed needs g++" in capsys.readouterr().err


@pytest.mark.usefixtures("_compiler")
def test_a_recipe_for_the_processor_stays_there_beside_gpus(tmp_path: Path) -> None:
    demo = RECIPES / "configs" / "demo"
    for gpus in (1, 2):
        there = described(AMPLE, "l40s", gpus)
        study = plan(tmp_path, {"full_zero3_offload", "full_fp32", "full"}, gpus)
        assert launch_command.command(demo, study, there) == f"python recipes/sft_full.py --config {demo / 'full.yaml'}"


def test_one_process_beside_several_gpus_is_started_by_the_launcher(tmp_path: Path) -> None:
    """A plain process would see all GPUs, and is refused by the preflight check."""
    line = launch_command.command(FOLDER, tmp_path / "none", described(AMPLE, "l40s", 2))
    assert line.startswith("accelerate launch --config_file accelerate_configs/single_gpu.yaml recipes/sft_full.py")


@pytest.mark.usefixtures("_compiler")
def test_what_does_not_fit_what_is_free_now_is_passed_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = plan(tmp_path, {"full_zero3_offload", "full_8bit"})
    written = read_json(study / "plan.json")
    next(row for row in written["strategies"] if row["name"] == "full_zero3_offload")["host_bytes"] = 150 * 10**9
    write_json(study / "plan.json", written)
    busy = replace(AMPLE, host_available_bytes=100 * 10**9)
    assert launch_command.choose(FOLDER, study, AMPLE)[0] == "full_zero3_offload"
    assert launch_command.choose(FOLDER, study, busy)[0] == "full_8bit"
    assert "passed over, it needs 150.0 GB of host memory" in capsys.readouterr().err


@pytest.mark.parametrize(("gpus", "nodes", "processes"), [(4, 1, 4), (8, 2, 16)])
def test_the_launch_line_starts_the_processes_that_the_plan_counted(gpus: int, nodes: int, processes: int) -> None:
    there = described(AMPLE, "l40s", gpus, nodes=nodes)
    config = "zero3_multi_node.yaml" if nodes > 1 else "zero3.yaml"
    line = launch_command.launch_line("full_zero3", config, FOLDER, there).split()
    assert line[line.index("--num_processes") + 1] == str(processes)
    assert ("--num_machines" in line) == (nodes > 1)
    assert "--num_processes" not in launch_command.launch_line("lora", "single_gpu.yaml", FOLDER, AMPLE)


def test_no_recipe_names_an_optimizer_that_offload_replaces() -> None:
    for path in [*FOLDER.glob("full_*offload*.yaml"), FOLDER / "full_nvme.yaml"]:
        assert yaml.safe_load(path.read_text())["optim"].startswith("adamw_torch"), path.name
    assert (ROOT / "accelerate_configs" / "zero2_offload.yaml").is_file()


def test_a_lock_that_a_killed_compiler_left_is_removed_and_one_in_use_is_kept(tmp_path: Path) -> None:
    locks = [tmp_path / name / "lock" for name in ("cpu_adam", "async_io")]
    for lock in locks:
        lock.parent.mkdir()
    compiler = subprocess.Popen(
        [sys.executable, "-c", f"f = open({str(locks[0])!r}, 'w'); print('open', flush=True); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert compiler.stdout is not None
    compiler.stdout.readline()
    locks[1].touch()
    assert deepspeed_ops.remove_stale_locks(tmp_path) == [locks[1]]
    compiler.kill()
    compiler.communicate(timeout=60)
    assert deepspeed_ops.remove_stale_locks(tmp_path) == [locks[0]]
    assert deepspeed_ops.remove_stale_locks(tmp_path) == []
