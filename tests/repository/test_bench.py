"""The stopwatch of the benchmarks and the judge of the attacks: what they count, and what they call a fault."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from conftest import ROOT

sys.path[:0] = [str(ROOT / "tests" / "bench"), str(ROOT / "tests" / "torture")]

import calculated_step  # noqa: E402
import damage  # noqa: E402
import demo  # noqa: E402
import engines  # noqa: E402
import external  # noqa: E402
import imports  # noqa: E402
import kills  # noqa: E402
import operators  # noqa: E402
import simulated_studies  # noqa: E402
import stage  # noqa: E402
import stages  # noqa: E402

import training  # noqa: E402
from medsft.hardware.specs import described, machine  # noqa: E402
from medsft.models import embedded  # noqa: E402


def test_rates_leave_out_the_first_step_and_padding(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "data_report.json").write_text('{"tokens": {"train": {"answer": 60, "total": 100}}}')
    step = {"seconds": 2.0, "processor_seconds": 4.0, "tokens": 100, "positions": 200}
    measured = {"first_step": [8.0, 9.0], "resident": 7, "steps": [{**step, "seconds": 50.0}, step, step]}
    rates = training.rates(measured, tmp_path, "lora")
    assert rates["tokens_per_second"] == 50
    assert rates["answer_tokens_per_second"] == 30
    assert rates["tokens_per_processor_second"] == 25
    assert rates["padding"] == 0.5
    assert rates["tokens"] == 300
    assert rates["gflops"] == pytest.approx(4 * 50 * (training.BODY + 0.6 * training.HEAD) / 1e9)
    assert training.rates(measured, tmp_path, "full")["gflops"] == pytest.approx(1.5 * rates["gflops"])


def test_a_stage_that_says_much_is_timed_to_its_end() -> None:
    measured = stages.timed(["-c", "import sys; print('.' * 1_000_000, file=sys.stderr)"])
    assert measured["seconds"] > 0
    assert measured["bytes"] > 0
    with pytest.raises(SystemExit, match="failed: no such row"):
        stages.timed(["-c", "raise SystemExit('no such row')"])


def test_the_seconds_of_the_demo_are_split_by_stage_and_part() -> None:
    lines = [
        (10.0, "[1 of 8] the data: clean, de-identify, split"),
        (18.0, "[7 of 8] answers and scores of every arm. Left: report"),
        (30.0, "44 answers, 99.0 new tokens per second: runs/x/baseline/generations.jsonl"),
        (50.0, "50%|##  | 44 answers, 99.0 new tokens per second: runs/x/lora/generations.jsonl"),
        (55.0, "wrote runs/x/comparison.json"),
        (60.0, "wrote runs/x/lora/forgetting.jsonl"),
        (61.0, "[8 of 8] the report"),
        (64.0, ""),
    ]
    found = demo.seconds(lines, 8.0)
    assert found.pop("before the first stage") == 2
    assert found.pop("the data") == 8
    assert found.pop("answers") == 32
    assert found.pop("scores") == 5
    assert found.pop("forgetting") == 5
    assert found.pop("the report") == 3
    assert sum(found.values()) == 1  # what is left of the seventh stage
    assert "| all | 56 | |" in demo.table({"a": 50.0, "b": 6.0})


def test_operators_are_counted_once_and_the_rest_is_python() -> None:
    own = {"aten::mm": 4.0, "aten::addmm_": 1.0, "aten::bmm": 1.0, "aten::_softmax": 0.5, "aten::_log_softmax": 0.5}
    found = operators.shares({**own, "aten::_fused_adamw_": 0.5, "aten::mul": 1.0, "_ProductBackward": 0.7}, 10.0)
    assert found == pytest.approx(
        {
            "products": 0.5,
            "attention": 0.15,
            "the loss": 0.05,
            "optimizer": 0.05,
            "element by element": 0.1,
            "Python": 0.15,
        }
    )
    assert "| lora | 2.50 | 50% | 15% | 5% | 5% | 10% | 15% |" in operators.table(
        {"lora": {"seconds": 2.5, "shares": found}}
    )


def test_engines_are_listed_by_their_speed_with_what_was_least_and_most() -> None:
    found = {"a": [(10.0, 30.0), (12.0, 28.0), (11.0, 40.0)], "b": [(90.0, 20.0)]}
    assert engines.table(found).splitlines()[2:] == [
        "| b | 90 [90, 90] | 20 [20, 20] |",
        "| a | 11 [10, 12] | 30 [28, 40] |",
    ]


def test_the_calculated_share_of_the_peak_is_what_is_left_of_half_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calculated_step, "MODEL", embedded.SMOLLM2)
    here = described(machine("."), "l4", 1, "64GB", "1TB")
    *_, at, needed, seconds, share, rest = calculated_step.row(here, "LoRA", ("lora",))
    assert at == "16, no" and 0 < float(needed) < 23 and float(seconds) > 0
    assert 0 < int(share.rstrip("%")) < 50 and "launches" in rest  # so small a model waits for its kernels
    offloaded = calculated_step.row(here, "full", ("full_zero3_offload",))
    assert "PCIe" in offloaded[-1] and 0 < int(offloaded[-2].rstrip("%")) < 50


def test_an_import_is_of_the_module_that_asks_for_it_first(tmp_path: Path) -> None:
    (tmp_path / "one.py").write_text("import two\n")
    (tmp_path / "two.py").write_text("")
    (tmp_path / "script.py").write_text("import one, two\nraise SystemExit(0)\n")
    found = {module["name"]: module for module in imports.watched([str(tmp_path / "script.py")])}
    assert (found["one"]["by"], found["two"]["by"]) == ("", "one")
    assert found["one"]["whole"] >= found["one"]["self"] + found["two"]["whole"] - 1e-6
    (tmp_path / "script.py").write_text("import three\n")
    with pytest.raises(SystemExit, match="No module named 'three'"):
        imports.watched([str(tmp_path / "script.py")])


def test_the_table_names_who_imports_the_largest_part_of_a_package() -> None:
    rows = [("torch", "trl.core", 1.0, 1.25), ("torch.nn", "torch", 0.5, 0.5), ("torch.fx", "peft", 0.01, 0.01)]
    rows += [("trl", "", 0.002, 0.002), ("trl.core", "trl", 0.03, 1.3)]
    modules = [{"name": n, "by": by, "self": own, "whole": whole} for n, by, own, whole in rows]
    _, _, total, *packages = imports.table({"a": modules, "b": modules[2:3]})
    assert total == "| all modules | 1,542 | 10 | |"
    assert packages == ["| torch | 1,510 | 10 | `trl.core`, `peft` |", "| trl | 32 |  |  |"]


@pytest.mark.parametrize(("way", "name"), [("llamafactory", "model_name_or_path"), ("axolotl", "base_model")])
@pytest.mark.parametrize(("bf16", "expected"), [(True, "bfloat16"), (False, "float32")])
def test_another_framework_loads_weights_in_the_faster_type(
    way: str, name: str, bf16: bool, expected: str, tiny_model: Path, tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM

    (tmp_path / "rows").mkdir()
    *_, config = external.command(way, tmp_path / "rows" / "train.jsonl", str(tiny_model), "lora", tmp_path / "o", bf16)
    loaded = AutoModelForCausalLM.from_pretrained(json.loads(Path(config).read_text())[name])
    assert loaded.dtype == getattr(torch, expected)


@pytest.mark.slow
def test_the_speed_of_products_is_measured_in_a_process_of_its_own() -> None:
    found = training.matrix_speed()
    assert set(found) == {"float32", "bfloat16"} and min(found.values()) > 0


def test_a_loop_of_a_frameworks_own_is_timed_by_what_it_embeds_and_steps(tmp_path: Path) -> None:
    (tmp_path / "lightning").mkdir()
    (tmp_path / "lightning" / "fabric.py").write_text("")
    (tmp_path / "loop.py").write_text(
        "import lightning.fabric\nimport torch\n"
        "embed = torch.nn.Embedding(10, 4)\n"
        "optimizer = torch.optim.AdamW(embed.parameters())\n"
        "ids = torch.tensor([[1, 2, 3, 0, 0, 0], [4, 5, 6, 7, 8, 0]])\n"
        "for _ in range(2):\n"
        "    with torch.no_grad():\n"
        "        embed(ids)\n"
        "    for _ in range(3):\n"
        "        embed(ids).sum().backward()\n"
        "    optimizer.step()\n"
    )
    words = [sys.executable, str(ROOT / "tests" / "bench" / "watched.py"), "result.json", "loop.py"]
    subprocess.run(words, cwd=tmp_path, check=True)
    measured = json.loads((tmp_path / "result.json").read_text())
    assert [(step["tokens"], step["positions"]) for step in measured["steps"]] == [(3 * (4 + 6), 3 * 12)] * 2
    assert all(step["seconds"] > 0 for step in measured["steps"])


@pytest.mark.slow
def test_the_notebooks_way_is_timed_from_outside(tiny_model: Path, tmp_path: Path) -> None:
    row = {"messages": [{"role": "user", "content": "My knee hurts."}, {"role": "assistant", "content": "Rest it."}]}
    (tmp_path / "rows.jsonl").write_text((json.dumps(row) + "\n") * 32)
    bench = ROOT / "tests" / "bench"
    words = [bench / "watched.py", tmp_path / "result.json", bench / "notebook.py"]
    words += [tmp_path / "rows.jsonl", tiny_model, "lora", tmp_path / "out", False]
    done = subprocess.run([sys.executable, *map(str, words)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    measured = json.loads((tmp_path / "result.json").read_text())
    assert [step["positions"] for step in measured["steps"]] == [16 * 512] * 2
    assert all(0 < step["tokens"] < 16 * 64 and step["seconds"] > 0 for step in measured["steps"])
    assert 0 < measured["first_step"][0] < measured["first_step"][1]
    assert (tmp_path / "out" / "adapter_model.safetensors").is_file()


@pytest.mark.parametrize(
    ("status", "output", "faulty"),
    [
        (0, "done", False),
        (2, "error: no such file", False),
        (3, "does not fit: 3 GB", False),
        (2, "something else", True),
        (1, "error: no", True),
        (-9, "hung: killed after 240 s", True),
        (0, "Traceback (most recent call last):\n  boom", True),
    ],
)
def test_a_fault_is_whatever_breaks_the_contract(status: int, output: str, faulty: bool) -> None:
    assert bool(stage.Run(status, output, 1.0).fault) == faulty


def test_results_are_compared_without_what_may_differ(tmp_path: Path) -> None:
    one = {"n": 3, "seconds": 1.0, "rows": [{"mean": 0.5, "time": 3}]}
    two = {"n": 3, "seconds": 9.0, "rows": [{"mean": 0.5, "time": 4}]}
    assert kills.steady(one) == kills.steady(two)
    two["rows"] = [{"mean": 0.6}]
    assert kills.steady(one) != kills.steady(two)
    assert kills.difference(kills.steady(one), kills.steady(two)).startswith("/rows")


def test_damage_changes_the_file(tmp_path: Path) -> None:
    import random

    for number in range(20):
        path = tmp_path / "file.parquet"
        path.write_bytes(bytes(range(1, 256)) * 8)
        damage.damage(path, random.Random(number))
        assert path.read_bytes() != bytes(range(1, 256)) * 8


def test_simulated_studies_are_counted_and_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"GROUPS": (10,), "LAYOUTS": 2, "RESAMPLES": 99, "SPREADS": (0.0,)}.items():
        monkeypatch.setattr(simulated_studies, name, value)
    found = simulated_studies.measure(40)
    assert len(found["coverage"]) == 2 * (len(simulated_studies.METRICS) + len(simulated_studies.PAIRED))
    assert all(row["coverage"] > 0.75 and row["agree"] == 1 for row in found["coverage"])
    assert [row["seeds"] for row in found["seeds"]] == [2, 3, 5]
    lines = simulated_studies.table(found)
    assert len(lines) == 2 + 2 + 9 + 1 + 2 + 3 + 1 and lines[4].startswith("| skewed (ROUGE-1) | ")
