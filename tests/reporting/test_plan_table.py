"""The memory plan in the terminal and as a figure, from rows made by hand."""

from matplotlib.figure import Figure

from medsft.config import CONFIGS
from medsft.hardware.specs import Hardware
from medsft.reporting import figures
from medsft.reporting.plan import plan_table

GB = 10**9
RECIPES = CONFIGS / "mistral_7b"
GPU = Hardware("l4", 2, 24 * GB, 24 * GB, 121.0, 300.0, 64 * GB, 64 * GB, 500 * GB, 8)
LAPTOP = Hardware("none", 0, 0, 0, None, None, 24 * GB, 20 * GB, 100 * GB, 4)


def row(name, fits, **changes):
    device = dict.fromkeys(plan_table.OF_DEVICE, 0) | {"weights": 14 * GB, "other": GB // 2}
    return {
        "name": name, "fits": fits, "reason": "needs 99.0 GB of disk", "note": "remarkable", "recipe": "lora.yaml",
        "margin": {"device_bytes": 9 * GB, "host_bytes": 59 * GB, "disk_bytes": GB}, "device_bytes": device,
        "host_bytes": 5 * GB, "host_bytes_by": {"process": 5 * GB}, "host_bytes_pinned": 7 * GB, "pinned_bytes": 3 * GB,
        "disk_bytes": 40 * GB, "largest_micro_batch": 12, "seconds_per_step": 1.26,
        "accelerate_config": "multi_gpu.yaml", **changes,
    }  # fmt: skip


def plan(rows, recommended):
    return {
        "model": {"name": "some/model", "parameters": 7 * GB, "lora_parameters": 7 * 10**6, "lora_percent": 0.1},
        "recipe": None, "inputs": {"batch": 4, "length": 512, "checkpointing": True, "lora_r": 16}, "hardware": {},
        "strategies": rows, "recommended": recommended, "recommended_reason": "it fits", "fingerprint": "f" * 16,
        "choices": ["activation_checkpointing false (it fits)"],
    }  # fmt: skip


def test_a_plan_is_shown_with_its_recommendation(capsys):
    plan_table.show(plan([row("lora", True), row("full", False, seconds_per_step=None)], "lora"), GPU, RECIPES, True)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "some/model: 7,000,000,000 parameters on 2 x l4 (24.0 GB), host 64.0 GB, disk 500 GB"
    lora = [line.split() for line in lines if line.strip().startswith("lora ")]
    assert lora[0] == ["lora", "14.0", "0.5", "14.5"]
    assert lora[1] == ["lora", "5.0", "5.0", "3.0", "7.0", "40.0"]
    assert lora[2] == ["lora", "yes", "9.0", "59.0", "12", "1.3", "remarkable"]
    full = [line.split() for line in lines if line.strip().startswith("full ")][2]
    assert full[:6] == ["full", "no", "9.0", "59.0", "-", "?"]
    assert " ".join(full).endswith("needs 99.0 GB of disk")
    assert lines[-3] == "recommended: lora: it fits"
    assert lines[-2] == "chosen for speed: activation_checkpointing false (it fits)"
    launch = "accelerate launch --config_file accelerate_configs/multi_gpu.yaml --num_processes 2 recipes/sft_lora.py"
    assert lines[-1].startswith(f"run it with: {launch} --config ")
    assert lines[-1].endswith("recipes/configs/mistral_7b/lora.yaml")


def test_without_details_one_table_as_wide_as_the_terminal(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "72")
    plan_table.show(plan([row("lora", True), row("full", False)], "lora"), GPU, RECIPES, False)
    out = capsys.readouterr().out
    table = out[out.index("what fits") : out.index("left: GB")]
    assert "host and disk" not in out and max(len(line) for line in table.splitlines()) <= 72


def test_without_a_gpu_nothing_is_left_of_one_and_nothing_recommended_is_no_line(capsys):
    margin = {"device_bytes": None, "host_bytes": -GB, "disk_bytes": GB}
    plan_table.show(plan([row("full", False, margin=margin, recipe=None)], None), LAPTOP, RECIPES, True)
    out = capsys.readouterr().out
    assert "on no GPU, host 24.0 GB, disk 100 GB" in out and "training in host memory (no GPU), GB" in out
    assert "recommended:" not in out
    verdict = [line.split() for line in out.splitlines() if line.strip().startswith("full ")][2]
    assert verdict[:4] == ["full", "no", "-1.0", "-"]


def test_the_figure_has_a_panel_for_each_memory_and_a_bar_for_each_strategy(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(Figure, "savefig", lambda self, path, **_: drawn.append(self))
    rows = [row("lora", True), row("full", False)]
    figures.draw_plan(rows, GPU, tmp_path / "plan.png")
    figures.draw_plan(rows, LAPTOP, tmp_path / "plan.png")
    on_gpu, on_cpu = drawn
    titles = [axes.get_title(loc="left") for axes in on_gpu.axes]
    assert titles == ["one GPU: has 24.0 GB (dashed)", "host: has 64.0 GB (dashed)"] and len(on_cpu.axes) == 1
    assert [label.get_text() for label in on_gpu.axes[0].get_yticklabels()] == ["lora", "full"]
    assert [text.get_text().strip() for text in on_gpu.axes[0].texts] == ["14.5", "14.5"]
