"""Machines as their nvidia-smi answers: plan, preflight, processes, rows, precision and launch line agree on each."""

from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import pytest

from conftest import RECIPES
from medsft.arguments import StudyArguments
from medsft.config import command_line
from medsft.errors import DoesNotFit, UserError
from medsft.hardware import gpus, specs
from medsft.memory import launch_command, lower_bound
from medsft.memory.strategies import STRATEGIES
from medsft.training import auto_options, preflight
from medsft.training.setup import rows_per_step

FOLDER = RECIPES / "configs" / "mistral_7b"


class Recorded(NamedTuple):
    """An answer of nvidia-smi: columns by field, `count` equal rows; `listing` is that of -L, `first` runs before."""

    name: str
    total: int
    free: int
    capability: str
    count: int = 1
    mig: str = "Disabled"
    listing: str = ""
    first: str = ""


SLICES = """GPU 0: NVIDIA A100-SXM4-80GB (UUID: GPU-5d5ba0d6)
  MIG 3g.40gb     Device  0: (UUID: MIG-c7384736)
  MIG 1g.10gb     Device  1: (UUID: MIG-a28ad590)"""
MACHINES = {
    "1 x A100-80": Recorded("NVIDIA A100-SXM4-80GB", 81920, 81155, "8.0"),
    "1 x RTX 4090": Recorded("NVIDIA GeForce RTX 4090", 24564, 24080, "8.9"),
    "4 x L40S": Recorded("NVIDIA L40S", 46068, 45596, "8.9", 4),
    "8 x H200": Recorded("NVIDIA H200", 143771, 143156, "9.0", 8),
    "1 x T4": Recorded("Tesla T4", 15360, 14930, "7.5"),
    "slices of an A100": Recorded("NVIDIA A100-SXM4-80GB", 81920, 81155, "8.0", 1, "Enabled", SLICES),
    "8 x H200 that answer late": Recorded("NVIDIA H200", 143771, 143156, "9.0", 8, first="sleep 0.5"),
}
# full fine-tuning that the arithmetic bound does not rule out with 1 TB of host memory, and that it does
POSSIBLE = {
    "1 x A100-80": ({"full_8bit", "full"}, {"full_fp32"}),
    "1 x RTX 4090": ({"full_zero3_offload", "full_fsdp2_offload"}, {"full_8bit", "full", "full_fp32"}),
    "4 x L40S": ({"full_zero3", "full_8bit"}, {"full", "full_fp32"}),
    "8 x H200": ({"full_fp32", "full_zero2", "full_zero3"}, set()),
    "1 x T4": ({"qlora", "full_zero3_offload"}, {"full_8bit"}),
    "slices of an A100": ({"full_zero3_offload"}, {"full_8bit"}),
    "8 x H200 that answer late": ({"full_fp32"}, set()),
}


@pytest.fixture
def here(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> specs.Hardware:
    """The machine of a recorded answer, with 1 TB of host memory and 4 TB of disk."""
    recorded = MACHINES[request.param]
    columns = {
        "name": recorded.name, "memory.total": recorded.total, "memory.free": recorded.free,
        "mig.mode.current": recorded.mig, "compute_cap": recorded.capability,
    }  # fmt: skip
    script = [f'#!/bin/sh\n{recorded.first}\ncase "$1" in', f"-L) cat <<'END'\n{recorded.listing}\nEND\n;;"]
    for asked in ("name,memory.total,memory.free,mig.mode.current", "compute_cap"):
        row = ", ".join(str(columns[field]) for field in asked.split(","))
        script.append(f"--query-gpu={asked}) for i in $(seq {recorded.count}); do echo '{row}'; done;;")
    (tmp_path / "nvidia-smi").write_text("\n".join([*script, "*) exit 2;;", "esac\n"]))
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    for name in ("CUDA_VISIBLE_DEVICES", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "DS_ACCELERATOR"):
        monkeypatch.delenv(name, raising=False)
    found = specs.described(specs.machine(tmp_path), host="1TB", disk="4TB")
    monkeypatch.setattr(preflight, "machine", lambda _path: found)
    monkeypatch.setattr(preflight, "hub_reachable", lambda: True)
    return found


everywhere = pytest.mark.parametrize(
    ("here", "name"), [(name, name) for name in MACHINES], indirect=["here"], ids=list(MACHINES)
)


@everywhere
def test_memory_and_number_are_those_of_the_answer(here: specs.Hardware, name: str) -> None:
    recorded = MACHINES[name]
    sliced = recorded.mig == "Enabled"
    assert here.gpus == here.ranks == recorded.count
    if sliced:  # CUDA gives a process one slice; its speed is not that of the GPU
        assert 38e9 < here.device_bytes < 40.3 * 2**30 and here.tflops is None
    else:
        assert (
            here.device_bytes == recorded.total * gpus.MIB and here.device_available_bytes == recorded.free * gpus.MIB
        )
        assert here.tflops


@everywhere
def test_launch_line_starts_a_process_for_each_gpu_and_a_step_keeps_its_rows(here: specs.Hardware, name: str) -> None:
    for strategy, config in (
        ("lora", "multi_gpu.yaml" if here.gpus > 1 else "single_gpu.yaml"),
        ("full_zero3", "zero3.yaml"),
    ):
        words = launch_command.launch_line(strategy, config, FOLDER, here).split()
        started = int(words[words.index("--num_processes") + 1]) if "--num_processes" in words else 1
        assert started == (here.gpus if config != "single_gpu.yaml" else 1) or here.gpus == 1
        # what the launched processes then count on is what was planned
        assert specs.launched(here, started).ranks == here.ranks
        run = SimpleNamespace(per_device_train_batch_size=4, gradient_accumulation_steps=1, world_size=started)
        rows_per_step.spread(StudyArguments(rows_per_step=16), run, [])
        assert rows_per_step.rows_per_step(run) == 16 and run.per_device_train_batch_size <= 4


@everywhere
def test_preflight_wants_a_launcher_for_several_gpus_only(here: specs.Hardware, name: str) -> None:
    argv = command_line(FOLDER / "qlora.yaml", given=[])
    if here.gpus > 1:
        with pytest.raises(UserError, match=f"accelerate launch --num_processes {here.gpus}"):
            preflight.check_machine(argv)
    else:
        preflight.check_machine(argv)


@everywhere
def test_precision_and_attention_are_what_the_gpu_computes_in(here: specs.Hardware, name: str) -> None:
    words = auto_options.choose(command_line(FOLDER / "lora.yaml", given=[]))
    chosen = dict(zip(words[::2], words[1::2], strict=True))
    assert chosen["--attn_implementation"] in ("sdpa", "flash_attention_2")
    half = {"--dtype": "float16", "--bf16": "false", "--fp16": "true"}
    assert (chosen.items() >= half.items()) == (name == "1 x T4") and "--tf32" not in chosen
    full = auto_options.choose(command_line(FOLDER / "full_offload.yaml", given=[]))
    assert "--fp16" not in full  # weights in float16 cannot be trained under loss scaling


@everywhere
def test_what_can_never_fit_is_refused_and_what_can_is_not(here: specs.Hardware, name: str) -> None:
    n = lower_bound.parameters(lower_bound._config("mistralai/Mistral-7B-Instruct-v0.2"))
    possible, never = POSSIBLE[name]
    for strategy in possible:
        assert not lower_bound.shortfall(STRATEGIES[strategy], n, here), strategy
    for strategy in never:
        assert "GPU memory" in lower_bound.shortfall(STRATEGIES[strategy], n, here), strategy


@pytest.mark.parametrize("here", ["slices of an A100"], indirect=True)
def test_a_named_slice_is_taken_and_an_unknown_one_is_none(
    here: specs.Hardware, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-a28ad590")
    assert gpus.visible_gpus()[0] == "NVIDIA A100-SXM4-80GB MIG 1g.10gb"
    assert gpus.visible_gpus()[2] == 9728 * gpus.MIB  # as an A100 of 80 GB reports it
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-0")
    assert gpus.visible_gpus()[1] == 0


def test_a_driver_that_fails_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\necho 'NVIDIA-SMI has failed'; exit 9\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(preflight, "hub_reachable", lambda: True)
    with pytest.raises(DoesNotFit, match="nvidia-smi is there and names none: run it"):
        preflight.check_machine(command_line(FOLDER / "lora.yaml", given=[]))


def test_rows_that_cannot_be_shared_are_refused_with_a_number_that_can() -> None:
    run = SimpleNamespace(per_device_train_batch_size=4, gradient_accumulation_steps=1, world_size=3)
    with pytest.raises(UserError, match="--rows_per_step 18"):
        rows_per_step.spread(StudyArguments(rows_per_step=16), run, [])
    rows_per_step.spread(StudyArguments(rows_per_step=18), run, [])
    assert (run.per_device_train_batch_size, run.gradient_accumulation_steps) == (3, 2)
    rows_per_step.spread(StudyArguments(rows_per_step=16), run, ["--gradient_accumulation_steps", "5"])
    assert run.gradient_accumulation_steps == 2  # the command line counts more than the recipe
