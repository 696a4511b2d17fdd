"""Every accelerate config with its recipe for GPUs, on processors: what wraps the model, and that it learns as alone.

The recipes of Mistral-7B keep their own flags, activation checkpointing among them. Only the model, the device and the
sizes are others.
"""

import shutil
import socket
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from conftest import RECIPES, ROOT, run_here, run_script
from medsft.files import read_json
from medsft.memory.strategies import STRATEGIES
from training_runs import ACCELERATE, losses, needs_compiler, needs_libaio, record

CONFIGS, MISTRAL = ROOT / "accelerate_configs", RECIPES / "configs" / "mistral_7b"
LAUNCHED = str(Path(__file__).parent / "launched.py")
ROWS = 4  # of a step, however many processes share them
DEVICE = ("--use_cpu", "true", "--dataloader_pin_memory", "false", "--host_reserve_gb", 0)
SIZES = ("--max_steps", 6, "--eval_steps", 3, "--save_steps", 3, "--logging_steps", 1, "--learning_rate", 3e-4)
ROW_COUNTS = ("--max_train_rows", 80, "--max_dev_rows", 4, "--per_device_eval_batch_size", 2)
# with 80 rows the sampler groups them alike for one process and for two
GPU_ONLY = {  # recipe: why its own flags do not start here
    "full_8bit": "its 8-bit AdamW is for GPUs",
    "full_flash": "its kernels are for GPUs (test_flash_adamw.py)",
    "full_8bit_in_backward": "its 8-bit AdamW is for GPUs",
    "sound": "QLoRA as in qlora, its optimizer is paged by CUDA",
    "paper": "QLoRA as in qlora, its optimizer is paged by CUDA",
}


class Launch(NamedTuple):
    """An accelerate config, a recipe, and what must wrap the model; `more` flags where no processor has the GPU's."""

    config: str
    recipe: str
    wrapped_by: str
    optimizer: str = "none"
    parameters: str = "none"
    more: tuple[str, ...] = ()

    @property
    def processes(self) -> int:
        return min(2, int(yaml.safe_load((CONFIGS / self.config).read_text())["num_processes"]))

    @property
    def name(self) -> str:
        return f"{self.recipe} by {Path(self.config).stem}"


UNPAGED = ("--optim", "adamw_torch")  # paging is CUDA's
REENTRANT = ("--activation_checkpointing_kwargs", '{"use_reentrant": true}')  # as paper.yaml has it
ALONE = [Launch("single_gpu.yaml", "full_fp32", "none"), Launch("cpu.yaml", "lora", "none")]
TOGETHER = [
    Launch("multi_gpu.yaml", "lora", "DistributedDataParallel"),
    Launch("multi_cpu.yaml", "lora", "DistributedDataParallel", more=REENTRANT),
    Launch("zero2.yaml", "full_zero2", "ZeRO-2"),
    Launch("zero2_offload.yaml", "full_zero2_offload", "ZeRO-2", "cpu"),
    Launch("zero3.yaml", "full_zero3", "ZeRO-3"),
    Launch("zero3_optimizer_offload.yaml", "full_zero3_optimizer_offload", "ZeRO-3", "cpu"),
    Launch("zero3_offload.yaml", "full_offload", "ZeRO-3", "cpu", "cpu"),
    Launch("zero3_nvme.yaml", "full_nvme", "ZeRO-3", "nvme", "cpu"),
    Launch("fsdp2_offload.yaml", "full_fsdp2_offload", "FSDP2", "cpu", "cpu"),
]
TWO_MACHINES = [
    Launch("multi_node.yaml", "lora", "DistributedDataParallel"),
    Launch("zero3_multi_node.yaml", "full_zero3", "ZeRO-3"),
]
QLORA = [
    Launch("multi_gpu.yaml", "qlora", "DistributedDataParallel", more=UNPAGED),
    Launch("zero2.yaml", "qlora", "ZeRO-2", more=UNPAGED),
]
IN_BF16 = Launch("zero3_offload.yaml", "full_offload_bf16", "ZeRO-3", "cpu", "cpu")
WITHOUT_LAUNCHER = ("full", "full_adafactor")


def marked(launch: Launch) -> Any:
    marks = [needs_compiler] if launch.wrapped_by.startswith("ZeRO") else []
    return pytest.param(launch, id=launch.name, marks=[*marks, *([needs_libaio] if launch.optimizer == "nvme" else [])])


def on_processors(launch: Launch, folder: Path, **changes: object) -> tuple[str, ...]:
    """The launch line of a shipped config, with the device replaced and two processes at most."""
    config: dict[str, Any] = yaml.safe_load((CONFIGS / launch.config).read_text())
    config |= {"use_cpu": True, "num_processes": launch.processes} | changes
    path = folder / launch.config
    path.write_text(yaml.safe_dump(config))
    return (*ACCELERATE, "--config_file", str(path))


def words(study: Path, model: Path, recipe: str, arm: str, *more: object) -> list[str]:
    """The recipe's script with its YAML and the replacements."""
    path = MISTRAL / f"{recipe}.yaml"
    shipped = yaml.safe_load(path.read_text())
    rows = ROWS if shipped["per_device_train_batch_size"] == shipped.get("rows_per_step") else 1  # or accumulated
    batch = ("--per_device_train_batch_size", rows, "--rows_per_step", ROWS)
    folder = ("--study_dir", study, "--model_name_or_path", model, "--arm", arm)
    script = "sft_full.py" if recipe.startswith("full") else "sft_lora.py"
    given = ("--config", path, *folder, *DEVICE, *SIZES, *ROW_COUNTS, *batch, *more)
    return [script, *map(str, given)]


def run(study: Path, model: Path, launch: Launch, arm: str, folder: Path, *more: object) -> None:
    line = words(study, model, launch.recipe, arm, *launch.more, *more)
    done = run_script(*line, launcher=(*on_processors(launch, folder), LAUNCHED))
    assert done.returncode == 0, done.stderr[-3000:]


def ends(study: Path, arm: str) -> list[dict[str, Any]]:
    """What each process of a launch ended with (launched.py)."""
    return [read_json(path) for path in sorted((study / arm).glob("process_*.json"))]


def check_wrapped(study: Path, arm: str, launch: Launch) -> None:
    """The record and the libraries' own objects agree on what wrapped the model, and all processes on its weights."""
    found, of_processes = record(study, arm), ends(study, arm)
    assert found["processes"] == len(of_processes) == launch.processes
    assert found["wrapped_by"] == launch.wrapped_by
    assert found["offload"] == {"optimizer": launch.optimizer, "parameters": launch.parameters}
    assert len({end["weights"] for end in of_processes}) == 1
    for end in of_processes:
        assert end["checkpointing"]
        if launch.wrapped_by == "FSDP2":
            assert found["distributed"] == "FSDP"
            assert end["all_sharded"] and end["groups"] > 2
            assert end["policies"] == ["CPUOffloadPolicy"]
        elif launch.wrapped_by.startswith("ZeRO"):
            assert found["distributed"] == "DEEPSPEED"
            assert (end["class"], end["stage"]) == ("DeepSpeedEngine", int(launch.wrapped_by[-1]))
            assert (end["optimizer"] == "DeepSpeedCPUAdam") == (launch.optimizer != "none")
        else:
            assert (end["class"] == "DistributedDataParallel") == (launch.wrapped_by == "DistributedDataParallel")


@pytest.fixture(scope="module")
def study(tiny_study: Path, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a full and a LoRA arm trained alone, to compare with."""
    folder = tmp_path_factory.mktemp("distributed") / "study"
    shutil.copytree(tiny_study / "data", folder / "data")
    for launch in ALONE:
        run(folder, tiny_model, launch, launch.recipe, folder)
        check_wrapped(folder, launch.recipe, launch)
    return folder


def test_every_accelerate_config_and_every_training_recipe_is_launched() -> None:
    launches = [*ALONE, *TOGETHER, *TWO_MACHINES, *QLORA, IN_BF16]
    assert {launch.config for launch in launches} == {path.name for path in CONFIGS.glob("*.yaml")}
    recipes = {path.stem for path in MISTRAL.glob("*.yaml") if "learning_rate" in path.read_text()}
    assert {launch.recipe for launch in launches} | {*WITHOUT_LAUNCHER, *GPU_ONLY} == recipes
    for launch in [*TOGETHER, IN_BF16]:
        strategy = STRATEGIES[yaml.safe_load((MISTRAL / f"{launch.recipe}.yaml").read_text())["strategy"]]
        if strategy.config:  # the one that the plan names
            assert (launch.config, launch.optimizer, launch.parameters) == (
                strategy.config, strategy.optimizer, strategy.parameters,
            )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("launch", [*map(marked, TOGETHER)])
def test_a_launch_wraps_as_its_recipe_says_and_learns_as_alone(
    study: Path, tiny_model: Path, tmp_path: Path, launch: Launch
) -> None:
    arm = launch.name.replace(" ", "_")
    run(study, tiny_model, launch, arm, tmp_path, "--nvme_path", tmp_path / "swap")
    check_wrapped(study, arm, launch)
    assert not list((tmp_path / "swap").rglob("*.swp"))  # NVMe's states are gone with the run
    alone = "full_fp32" if launch.recipe.startswith("full") else "lora"
    assert losses(study, arm) == pytest.approx(losses(study, alone), abs=0.01)
    for counted in ("rows_per_step", "tokens_seen", "answer_tokens_seen", "total_parameters", "trainable_parameters"):
        assert record(study, arm)[counted] == record(study, alone)[counted]
    if alone == "full_fp32":
        check_saved(study / arm / "model", study / alone / "model")
        assert dev_losses(study, arm) == pytest.approx(dev_losses(study, alone), abs=0.01)


@pytest.mark.slow
@needs_compiler
def test_qlora_in_two_processes_learns_the_same_under_ddp_and_zero_2(
    study: Path, tiny_model: Path, tmp_path: Path
) -> None:
    arms = [launch.name.replace(" ", "_") for launch in QLORA]
    for launch, arm in zip(QLORA, arms, strict=True):
        run(study, tiny_model, launch, arm, tmp_path)
        check_wrapped(study, arm, launch)
        assert record(study, arm)["quantization"] == "nf4"
        assert (study / arm / "adapter" / "adapter_model.safetensors").is_file()
    assert losses(study, arms[1]) == pytest.approx(losses(study, arms[0]), abs=0.01)
    assert losses(study, arms[0])[-1] < losses(study, arms[0])[0]


def dev_losses(study: Path, arm: str) -> list[float]:
    return [row["eval_loss"] for row in record(study, arm)["history"] if "eval_loss" in row]


def check_saved(folder: Path, plain: Path) -> None:
    """The saved model is whole, and says about the same as the one trained alone."""
    import torch
    from transformers import AutoModelForCausalLM

    saved, report = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    ids = torch.arange(100, 132)[None]
    with torch.no_grad():
        difference = [
            network.float()(ids).logits.log_softmax(-1)
            for network in (saved, AutoModelForCausalLM.from_pretrained(plain))
        ]
    assert (difference[0] - difference[1]).abs().max() < 0.1  # a step moves log-probabilities by about as much


@pytest.mark.slow
def test_fsdp2_in_two_processes_continues_to_the_same_weights(study: Path, tiny_model: Path, tmp_path: Path) -> None:
    """Sharded over two, as it is over two GPUs; and from the checkpoint half-way as if nothing had stopped it."""
    launch = Launch("fsdp2_offload.yaml", "full_fsdp2_offload", "FSDP2", "cpu", "cpu")
    line = words(study, tiny_model, launch.recipe, "sharded")
    launcher = (*on_processors(launch, tmp_path, num_processes=2), LAUNCHED)
    weights = []
    for said in ("step 6", "continuing from"):
        done = run_script(*line, launcher=launcher)
        assert done.returncode == 0, done.stderr[-3000:]
        assert said in done.stdout + done.stderr
        one, two = ends(study, "sharded")
        assert one == two and one["all_sharded"]
        weights.append(one["weights"])
        assert losses(study, "sharded") == pytest.approx(losses(study, "full_fp32"), abs=0.01)
        check_saved(study / "sharded" / "model", study / "full_fp32" / "model")
        for name in ("checkpoint-6", "model"):
            shutil.rmtree(study / "sharded" / name)
        (study / "sharded" / "train.json").unlink()
    assert weights[0] == weights[1]


@pytest.mark.slow
@pytest.mark.parametrize("launch", [*map(marked, TWO_MACHINES)])
def test_two_launchers_are_two_machines(study: Path, tiny_model: Path, tmp_path: Path, launch: Launch) -> None:
    """Each is given its rank and the address of the first, as the configs say."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    launcher = on_processors(launch, tmp_path, main_process_port=port)
    arm = launch.name.replace(" ", "_")
    line = words(study, tiny_model, launch.recipe, arm)
    second_line = [*launcher, "--machine_rank", "1", LAUNCHED, str(RECIPES / line[0]), *line[1:]]
    log = tmp_path / "second.log"
    with log.open("w") as output:
        second = subprocess.Popen(second_line, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT)
    try:
        first = run_script(*line, launcher=(*launcher, "--machine_rank", "0", LAUNCHED))
        assert first.returncode == 0, f"{first.stderr[-3000:]}\nthe second:\n{log.read_text()[-6000:]}"
        assert second.wait(timeout=120) == 0, log.read_text()[-6000:]
    finally:
        second.kill()
    check_wrapped(study, arm, launch)
    assert losses(study, arm) == pytest.approx(losses(study, "full_fp32" if "full" in arm else "lora"), abs=0.01)


@pytest.mark.slow
@needs_compiler
def test_masters_and_states_in_bf16_learn_as_torch_does_in_bf16(study: Path, tiny_model: Path, tmp_path: Path) -> None:
    """`full_offload_bf16` against one process whose AdamW has nothing but bf16 either (full.yaml)."""
    steps = ("--max_steps", 3)  # a processor without bf16 instructions takes 2 s a row of the tiny model
    assert run_here(*words(study, tiny_model, "full", "plain_bf16", *steps)).returncode == 0
    run(study, tiny_model, IN_BF16, "offload_bf16", tmp_path, *steps)
    check_wrapped(study, "offload_bf16", IN_BF16)
    assert losses(study, "offload_bf16") == pytest.approx(losses(study, "plain_bf16"), abs=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("recipe", [name for name in WITHOUT_LAUNCHER if name != "full"])
def test_a_recipe_for_one_gpu_takes_two_steps(study: Path, tiny_model: Path, recipe: str) -> None:
    more = UNPAGED if recipe == "qlora" else ()
    done = run_here(*words(study, tiny_model, recipe, f"{recipe}_here", *more, "--max_steps", 2))
    assert done.returncode == 0, done.stderr[-3000:]
    assert record(study, f"{recipe}_here")["wrapped_by"] == "none"
