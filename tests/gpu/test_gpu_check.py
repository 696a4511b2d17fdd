"""`make gpu-check`: whole on a processor, and with GPUs of four sizes stood in for; budget, table, wheels, page."""

import json
import os
import subprocess
import sys
import time
import types
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from safetensors.numpy import save_file

from conftest import ROOT, run_here
from gpu import __main__ as program
from gpu import check, device, rows, run, sizing, table, wheels
from medsft.errors import UserError
from medsft.files import read_json, write_json
from medsft.hardware import gpus, specs
from medsft.memory.strategies import STRATEGIES
from training_runs import needs_compiler

GPUS = {  # what nvidia-smi says: name, driver, MiB in all, MiB free; of the last one there are eight
    "rtx4090": ("NVIDIA GeForce RTX 4090", "570.86.15", 24_564, 24_100),
    "l40s": ("NVIDIA L40S", "570.86.15", 46_068, 45_400),
    "a100-80gb": ("NVIDIA A100-SXM4-80GB", "550.54.15", 81_920, 81_000),
    "h200": ("NVIDIA H200", "580.159.04", 143_771, 143_100),
}


# ---- sizes -----------------------------------------------------------------------------------------------------------


def test_the_shape_is_the_studys() -> None:
    from medsft.models.parameter_counts import known_config, sizes_of

    for config, shape in ((known_config(device.STUDY), sizing.MISTRAL_7B), (device.study_shape(True), check.TOY)):
        sizes = sizes_of(config)
        assert (sizes.layer, sizes.layers, sizes.hidden) == (shape.layer, shape.layers, shape.width)
        assert sizes.parameters == shape.parameters(shape.layers)


@pytest.mark.parametrize(
    ("gb", "lora", "qlora", "fp32", "bf16", "eight_bit"),
    [(24, 30, 32, 2, 7, 10), (48, 32, 32, 7, 18, 25), (80, 32, 32, 14, 32, 32), (141, 32, 32, 27, 32, 32)],
)
def test_layers_by_the_gpus_memory(gb: int, lora: int, qlora: int, fp32: int, bf16: int, eight_bit: int) -> None:
    """The plan of 7 billion: LoRA in 18.4 GB, QLoRA in 10, 8-bit AdamW in 48, bf16 in 60, fp32 in 133."""
    held = [sizing.HELD["lora"], sizing.HELD["qlora"]]
    held += [sizing.bytes_held(STRATEGIES["full_fp32"].states, "float32")]
    held += [sizing.bytes_held(STRATEGIES[name].states, "bfloat16") for name in ("full", "full_8bit")]
    found = [sizing.layers_that_fit(sizing.MISTRAL_7B, each, gb * 10**9, 4 * 1024) for each in held]
    assert found == [lora, qlora, fp32, bf16, eight_bit]
    assert sizing.layers_that_fit(sizing.MISTRAL_7B, held[2], 6 * 10**9, 4 * 1024) == 0


def test_layers_that_are_offloaded_fit_the_host() -> None:
    assert [sizing.layers_offloaded(sizing.MISTRAL_7B, gb * 10**9) for gb in (16, 32, 128)] == [0, 2, 4]


# ---- the whole check with a GPU stood in for -------------------------------------------------------------------------


def value_of(words: list[str], name: str) -> str:
    return words[words.index(f"--{name}") + 1]


def stand_in(commands: list[list[str]], losses: list[float]) -> Any:
    """A `run` that writes what the scripts would, and keeps their commands."""

    def pretend(words: list[str], log: Path, limit: float, env: dict[str, str], stop_at: Path | None = None) -> Any:
        commands.append(words)
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text("continuing from checkpoint-1\n" + json.dumps({"tflops": 700.0, "precision": "bfloat16"}))
        script = next((Path(word).name for word in words if word.endswith(".py")), "")
        if "weights" in words:
            folder, layers = Path(words[3]), int(words[4])
            folder.mkdir(parents=True)
            (folder / "chat_template.jinja").touch()
            write_json(folder / "config.json", {"num_hidden_layers": layers, "num_key_value_heads": 8, "head_dim": 128})
            for name in ["outside", *(f"layer-{n:03}" for n in range(layers))]:
                save_file({f"{name}.weight": np.zeros(1)}, folder / f"{name}.safetensors")
        elif script == "prepare_data.py":
            report = {"rows_kept": 9, "tokens": {"train": {"max": 700}}}
            write_json(Path(value_of(words, "study_dir")) / "data" / "data_report.json", report)
        elif script == "generate.py":
            arm = Path(value_of(words, "study_dir")) / value_of(words, "arm")
            found = {"engine": "transformers", "precision": "bfloat16", "tokens_per_second": 900.0, "n": 32}
            write_json(arm / "generation.json", found)
        elif script.startswith("sft_") and stop_at is not None:
            return run.Finished(130, 5.0, 10**9, 0, "interrupted")
        elif script.startswith("sft_"):
            engine = "zero3_offload.yaml" in " ".join(words) and "ZeRO-3"
            engine = engine or ("fsdp2_offload.yaml" in " ".join(words) and "FSDP2") or "none"
            memory = {"device_bytes": 9 * 10**9, "host_bytes": 5 * 10**9, "reserved_bytes": 8 * 10**9}
            record = {
                "arm": value_of(words, "arm"), "total_parameters": 10**9, "wrapped_by": engine, "micro_batch": 4,
                "tokens_seen": 16_000, "steps": 4, "step_seconds": [3.0, 1.0, 1.0, 1.0], "quantization": "nf4",
                "predicted_memory": memory, "peak_memory": {**memory, "allocated_bytes": 7 * 10**9},
                "settings": {"strategy": "x"},
                "history": [{"step": 0, "eval_loss": 10.4}, *({"loss": x} for x in losses)],
            }  # fmt: skip
            write_json(Path(value_of(words, "study_dir")) / record["arm"] / "train.json", record)
        return run.Finished(0, 20.0, 10**9, 9 * 10**9, "")

    return pretend


@pytest.fixture
def on_gpu(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on PATH with the nvidia-smi of the GPU that the test names."""
    name, driver, total, free = GPUS[request.param]
    fields = {"name,memory.total,memory.free,mig.mode.current": f"{name}, {total}, {free}, Disabled"}
    fields |= {"driver_version": driver, "compute_cap": "9.0"}
    script = tmp_path / "bin" / "nvidia-smi"
    script.parent.mkdir()
    lines = {query: "\n".join([answer] * (8 if request.param == "h200" else 1)) for query, answer in fields.items()}
    cases = "".join(f'--query-gpu={query}) echo "{answer}";;\n' for query, answer in lines.items())
    script.write_text(f'#!/bin/sh\ncase "$1" in\n{cases}esac\n')
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{script.parent}:/usr/bin:/bin")
    for variable in ("CUDA_VISIBLE_DEVICES", "PYTHONPATH", "HF_HUB_OFFLINE"):
        monkeypatch.setenv(variable, "")  # so that what the check sets is put back
        monkeypatch.delenv(variable)
    monkeypatch.setattr(specs, "host_memory", lambda: (137 * 10**9, 130 * 10**9))
    gpus._asked.cache_clear()
    return tmp_path


@pytest.mark.parametrize("on_gpu", GPUS, indirect=True)
def test_every_row_is_launched_as_the_recipes_and_libraries_read_it(
    on_gpu: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Everything but the processes themselves: sizes, command lines, launch configs, rows, table, page, exit status."""
    commands: list[list[str]] = []
    monkeypatch.setattr(check, "run", stand_in(commands, [10.4, 9.9, 9.0, 8.8]))
    monkeypatch.setattr(rows, "find_spec", lambda name: name != "vllm" or None)
    status = program.main(["--output_dir", str(on_gpu / "out"), "--minutes", "60"])
    result = read_json(on_gpu / "out" / "gpu_check.json")
    found = {row["row"]: row for row in result["rows"]}
    assert {name: row["reason"] for name, row in found.items() if row["status"] == "fail"} == {}
    assert status == 0
    assert {name for name, row in found.items() if row["status"] == "skipped"} == {"generation_vllm"}
    assert result["device"] == "cuda" and os.environ["CUDA_VISIBLE_DEVICES"] == "0"
    assert result["environment"]["device"] in [name for name, *_ in GPUS.values()]
    assert found["lora"]["share_of_peak"] == pytest.approx(
        sizing.flops_per_token(sizing.MISTRAL_7B, found["lora"]["layers"], False) * 4000 / 700e12
    )
    assert found["zero3_offload"]["layers"] <= 4 < found["lora"]["layers"] <= 32
    assert "gpu-check on NVIDIA" in capsys.readouterr().out

    page = on_gpu / "speed.md"
    page.write_text(f"# Speed\n\n{table.BEGIN}\n\nNone.\n\n{table.END}\nend\n")
    assert program.main(["--output_dir", str(on_gpu / "out"), "--paste", str(page)]) == 0
    text = page.read_text()
    assert f"**On one {result['environment']['device']}**" in text
    assert result["environment"]["date"] in text and "| zero3_offload | " in text and "vllm" not in text
    assert not table.paste(on_gpu / "out" / "gpu_check.json", page)
    write_json(
        on_gpu / "out" / "gpu_check.json", {**result, "environment": {**result["environment"], "device": "Other"}}
    )
    assert table.paste(on_gpu / "out" / "gpu_check.json", page)
    assert page.read_text().count("**On one ") == 2 and page.read_text().endswith("end\n")

    parsed_by_their_scripts(commands)


def parsed_by_their_scripts(commands: list[list[str]]) -> None:
    """Each training's options go through the script's own parser and checks, its launch through accelerate's."""
    from accelerate.commands.launch import launch_command_parser

    from medsft.memory.strategies import check_options
    from medsft.training.sft import parse_recipe

    trainings = [words for words in commands if any("recipes/sft_" in str(word) for word in words)]
    assert len(trainings) >= 12
    for words in trainings:
        at = next(i for i, word in enumerate(words) if "recipes/sft_" in word)
        study, config, model_args = parse_recipe([*words[at + 1 :], "--use_cpu", "true"])
        assert config.max_steps in (2, 4, 8) and config.save_strategy in ("no", "steps")
        if config.optim and "on_" not in study.arm:
            check_options(study.strategy, study, config, model_args)
        if at > 1:
            launched = launch_command_parser().parse_args(words[3:])
            assert Path(launched.config_file).is_file() and launched.training_script == words[at]


@pytest.mark.parametrize("on_gpu", ["h200"], indirect=True)
def test_a_cut_run_keeps_its_rows_and_goes_on(on_gpu: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[list[str]] = []
    monkeypatch.setattr(check, "run", stand_in(commands, [10.4, 9.9, 9.0, 8.8]))
    monkeypatch.setattr(rows, "find_spec", lambda name: name != "vllm" or None)
    out = ["--output_dir", str(on_gpu / "out")]
    assert program.main([*out, "--minutes", "0.5"]) == 0
    first = {row["row"]: row for row in read_json(on_gpu / "out" / "gpu_check.json")["rows"]}
    assert first["matrix_peak"]["status"] == "pass"
    assert "MINUTES=0.5 are left" in first["weights"]["reason"]
    assert first["lora"]["reason"] == "needs the row 'weights'"
    assert program.main([*out, "--minutes", "60"]) == 0
    assert sum("peak" in words for words in commands) == 1  # the one row that was there is not measured again
    assert program.main([*out, "--minutes", "60", "--fresh", "--rows", "lora"]) == 0
    assert sum("peak" in words for words in commands) == 2
    rows_now = [row["row"] for row in read_json(on_gpu / "out" / "gpu_check.json")["rows"]]
    assert rows_now == ["matrix_peak", "weights", "data", "lora"]
    assert program.main([*out, "--rows", "lorra"]) == 2


@pytest.mark.parametrize("on_gpu", ["l40s"], indirect=True)
@pytest.mark.parametrize("losses", [[10.4, 10.5, 10.6, 10.7], [10.4, 9.0, float("nan")]])
def test_a_loss_that_does_not_fall_fails_its_row(
    on_gpu: Path, monkeypatch: pytest.MonkeyPatch, losses: list[float]
) -> None:
    monkeypatch.setattr(check, "run", stand_in([], losses))
    assert program.main(["--output_dir", str(on_gpu / "out"), "--rows", "lora"]) == 1
    assert "does not fall" in read_json(on_gpu / "out" / "gpu_check.json")["rows"][-1]["reason"]


def test_what_only_runs_on_the_device_is_entered_with_cuda_stood_in_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import torch

    monkeypatch.setattr(device, "SIDE", 32)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
    found = device.peak("cpu:0")
    assert found["tflops"] >= 0 and found["compute_capability"] == "9.0"

    used = types.SimpleNamespace(used=7 * 10**9)
    library: Any = types.SimpleNamespace(nvmlInit=lambda: None, nvmlDeviceGetMemoryInfo=lambda handle: used)
    library.nvmlDeviceGetHandleByIndex = library.nvmlDeviceGetHandleByUUID = lambda name: name
    monkeypatch.setitem(sys.modules, "pynvml", library)
    for visible, expected in (("0", 7 * 10**9), ("GPU-1234", 7 * 10**9), ("", 0)):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        assert run.device_in_use() == expected


# ---- one command -----------------------------------------------------------------------------------------------------


def test_a_command_has_a_limit_and_its_last_words(tmp_path: Path) -> None:
    done = run.run([sys.executable, "-c", "import time; time.sleep(600)"], tmp_path / "a.log", 1.0, {})
    assert done.status is None and "did not end within" in done.failure()
    says = [sys.executable, "-c", "import sys; print('error: no such thing'); print('later'); sys.exit(2)"]
    done = run.run(says, tmp_path / "b.log", 60.0, {})
    assert done.failure() == "exit status 2: error: no such thing"
    waits = "import pathlib, signal, sys, time\nsignal.signal(15, lambda *_: sys.exit(130))\n"
    waits += f"pathlib.Path({str(tmp_path / 'there')!r}).touch()\ntime.sleep(60)"
    done = run.run([sys.executable, "-c", waits], tmp_path / "c.log", 60.0, {}, stop_at=tmp_path / "there")
    assert done.status == 130 and done.host > 0


def test_nothing_that_a_command_started_is_left(tmp_path: Path) -> None:
    """Not even what has a process group of its own, as ninja's compilers have."""
    child = "import os, time; os.setpgid(0, 0); open('new', 'w').write(str(os.getpid())); os.rename('new', 'pid'); "
    starts = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]])"
    words = [sys.executable, "-c", starts, child + "time.sleep(600)"]
    process = subprocess.Popen(words, cwd=tmp_path, start_new_session=True)
    deadline = time.monotonic() + 120
    while not (tmp_path / "pid").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    own = psutil.Process(int((tmp_path / "pid").read_text()))
    run.end_all(process.pid)
    own.wait(timeout=60)
    assert process.wait(timeout=60) < 0


def test_marks_are_needed_and_a_processors_rows_stay_out(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"device": "cpu", "rows": []})
    with pytest.raises(UserError, match="measured on a processor"):
        table.paste(tmp_path / "a.json", tmp_path / "page.md")
    write_json(tmp_path / "a.json", {"device": "cuda", "rows": []})
    (tmp_path / "page.md").write_text("nothing")
    with pytest.raises(UserError, match="expected one line"):
        table.paste(tmp_path / "a.json", tmp_path / "page.md")
    assert (ROOT / "docs" / "speed.md").read_text().count(table.BEGIN) == 1


def test_a_wheel_is_stripped_to_one_library_and_installs(tmp_path: Path) -> None:
    wheel = tmp_path / "bitsandbytes-0.1-py3-none-any.whl"
    there = ["bitsandbytes/__init__.py", *(f"bitsandbytes/lib_{x}.so" for x in ("cpu", "cuda118", "cuda130", "rocm70"))]
    info = "bitsandbytes-0.1.dist-info"
    with zipfile.ZipFile(wheel, "w") as new:
        for name in there:
            new.writestr(name, "")
        new.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: bitsandbytes\nVersion: 0.1\n")
        new.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        new.writestr(f"{info}/RECORD", "".join(f"{name},,\n" for name in [*there, f"{info}/RECORD"]))
    with pytest.raises(SystemExit, match="no library for CUDA 999; it has 118, 130"):
        wheels.strip(wheel, "999")
    wheels.strip(wheel, "130")
    wheels.install(tmp_path, tmp_path / "site")
    left = {path.name for path in (tmp_path / "site" / "bitsandbytes").glob("*.so")}
    assert left == {"lib_cpu.so", "lib_cuda130.so"}


def test_the_memory_plan_learns_the_tightest_of_the_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows under DeepSpeed, with paged states, with checkpoints in between, of nothing: none of them is learnt from."""
    monkeypatch.setenv("MEDSFT_CACHE", str(tmp_path / "cache"))
    settings = {"strategy": "lora", "optim": "adamw_torch", "save_strategy": "no"}
    memory = {"device_bytes": 0, "reserved_bytes": 0}
    runs = {"lora": ("NO", settings, 1450), "qlora": ("NO", settings, 1600), "zero3": ("DEEPSPEED", settings, 9000)}
    runs |= {"paged": ("NO", settings | {"optim": "paged_adamw_8bit"}, 9000)}
    runs |= {"resume": ("NO", settings | {"save_strategy": "steps"}, 9000)}
    for name, (distributed, chosen, host) in runs.items():
        record = {"distributed": distributed, "processes": 1, "settings": chosen, "arm": name}
        record |= {"trainable_parameters": 1, "total_parameters": 9}
        record |= {"predicted_memory": {"traced_bytes": 1000, "process_bytes": 500}}
        write_json(tmp_path / f"{name}.json", record | {"peak_memory": {**memory, "host_bytes": host}})
    found = [{"status": "pass", "train_json": str(tmp_path / f"{name}.json")} for name in ("qlora", *runs)]
    found += [{"status": "pass"}, {"status": "pass", "train_json": None}, {"status": "fail", "train_json": "gone"}]
    write_json(tmp_path / "gpu_check.json", {"device": "cpu", "rows": found})
    done = run_here("plan_memory.py", "--gpu", "none", "--calibrate", tmp_path / "gpu_check.json")
    assert done.returncode == 0, done.stderr
    assert [json.loads(file.read_text())["slack"] for file in tmp_path.glob("cache/calibration/*.json")] == [0.1]
    write_json(tmp_path / "gpu_check.json", {"device": "cpu", "rows": found[4:5]})
    done = run_here("plan_memory.py", "--calibrate", tmp_path / "gpu_check.json")
    assert done.returncode == 2 and "no run in it to learn from" in done.stderr


# ---- whole, on this processor ----------------------------------------------------------------------------------------


@needs_compiler
@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_whole_check_on_a_processor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every row by the real scripts at toy size, then what the memory plan learns from them."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    status = program.main(["--device", "cpu", "--minutes", "25", "--output_dir", str(tmp_path / "out")])
    found = {row["row"]: row for row in read_json(tmp_path / "out" / "gpu_check.json")["rows"]}
    assert {name: row["reason"] for name, row in found.items() if row["status"] == "fail"} == {}
    assert status == 0
    assert {name for name, row in found.items() if row["status"] == "skipped"} == {"fsdp2_offload", "generation_vllm"}
    wrapped = {name: row["wrapped_by"] for name, row in found.items() if "wrapped_by" in row}
    assert wrapped.pop("zero3_offload") == "ZeRO-3" and set(wrapped.values()) == {"none"}
    for name in (
        "lora",
        "lora_recomputed",
        "qlora",
        "full",
        "zero3_offload",
        "stop_and_resume",
        "processor_against_gpu",
    ):
        row = found[name]
        assert all(np.isfinite(row["losses"])) and row["losses"][-1] < row["losses"][0]
        assert row["predicted"]["host_bytes"] > 0 and row["measured"]["host_bytes"] > 0
        assert row["tokens_per_second"] > 0 and 0 < row["share_of_peak"] < 1
    assert found["stop_and_resume"]["losses_differ_by"] == found["processor_against_gpu"]["losses_differ_by"] == 0
    assert found["generation"]["tokens_per_second"] > 0 and found["generation"]["measured"]["host_bytes"] > 0

    monkeypatch.setenv("MEDSFT_CACHE", str(tmp_path / "cache"))
    learned = run_here("plan_memory.py", "--calibrate", tmp_path / "out" / "gpu_check.json")
    assert learned.returncode == 0, learned.stderr
    assert learned.stdout.count("kept for this machine without a GPU") >= 2
    assert list((tmp_path / "cache" / "calibration").glob("*.json"))
