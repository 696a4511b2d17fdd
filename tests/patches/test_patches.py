"""The private names and behaviour of libraries that medsft.patches relies on: these fail when a library changes."""

import inspect
import pickle
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from tqdm import tqdm

from conftest import RECIPES
from medsft.models.meta import empty_model
from medsft.models.parameter_counts import known_config
from medsft.patches import bitsandbytes, python, transformers
from medsft.patches import tqdm as bars


def test_open_progress_bars_are_closed(capsys: pytest.CaptureFixture[str]) -> None:
    with tqdm(total=2) as bar:
        assert bar in tqdm._instances
        bars.close_bars()
        assert bar.disable
        assert not tqdm._instances


def test_the_trainer_asks_the_replaced_sampler_and_tells_it_the_epoch(tiny_model: Path, tmp_path: Path) -> None:
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, Trainer, TrainingArguments
    from transformers.trainer_pt_utils import LengthGroupedSampler

    from medsft.training.setup.row_order import EpochSampler

    rows = Dataset.from_dict({"input_ids": [[1] * (1 + n % 5) for n in range(24)]})
    strategy = {"train_sampling_strategy": "group_by_length", "per_device_train_batch_size": 2}
    arguments = TrainingArguments(str(tmp_path), use_cpu=True, report_to="none", **strategy)
    trainer = Trainer(AutoModelForCausalLM.from_pretrained(tiny_model), arguments, train_dataset=rows)
    seen: list[LengthGroupedSampler] = []

    def by_epoch(own: LengthGroupedSampler) -> EpochSampler:
        seen.append(own)
        return EpochSampler(own.lengths, own.batch_size, 7)

    transformers.replace_sampler(trainer, by_epoch)
    loader = trainer.get_train_dataloader()
    assert type(seen[0]) is LengthGroupedSampler and seen[0].batch_size == 2
    loader.set_epoch(3)
    assert loader.batch_sampler.sampler.epoch == 3


def test_a_process_ends_after_its_exit_handlers_and_without_teardown() -> None:
    script = f"""
import atexit, sys
sys.path.insert(0, {str(RECIPES)!r})
from {python.__name__} import exit_without_teardown

class Late:
    def __del__(self):
        print("torn down")

late = Late()
atexit.register(print, "handler ran")
exit_without_teardown()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "handler ran\n"), done.stderr


@pytest.mark.parametrize("name", ["eager", "sdpa"])
def test_the_attention_of_a_model_is_set_before_it_is_built(name: str) -> None:
    config = known_config("embedded/SmolLM2-135M-Instruct")
    assert config is not None
    model = empty_model(config, "bfloat16", name)
    assert transformers.attention_of(model.config) == name
    attention = next(module for module in model.modules() if type(module).__name__ == "LlamaAttention")
    assert transformers.attention_of(attention.config) == name  # what its forward pass reads


def test_4_bit_layers_still_have_the_switch_that_repacks_them() -> None:
    bnb = pytest.importorskip("bitsandbytes")
    layer = bnb.nn.Linear4bit(64, 64)
    assert hasattr(layer, "support_avx512bf16_for_cpu")
    layer.support_avx512bf16_for_cpu = True
    bitsandbytes.keep_trainable_layout(torch.nn.Sequential(layer))
    assert layer.support_avx512bf16_for_cpu is False
    assert "self.support_avx512bf16_for_cpu" in inspect.getsource(type(layer).forward)


def test_deepspeed_still_has_what_a_resumed_run_is_completed_by() -> None:
    pytest.importorskip("deepspeed")
    import deepspeed as library
    from deepspeed.ops.adam import DeepSpeedCPUAdam
    from deepspeed.runtime.swap_tensor.optimizer_utils import OptimizerSwapper
    from deepspeed.runtime.zero.stage3 import DeepSpeedZeroOptimizer_Stage3 as Stage3
    from transformers import TrainerCallback

    from medsft.patches import deepspeed

    assert issubclass(deepspeed.CompleteResume, TrainerCallback)
    assert [*inspect.signature(OptimizerSwapper._get_param_swap_info).parameters] == ["self", "parameter"]
    built = inspect.getsource(Stage3)
    for method in ("_swappable_optimizer_subgroup", "_reassign_or_swap_out_partitioned_parameters"):
        assert f"def {method}(self, sub_group_id):" in built
    for name in ("fp32_partitioned_groups_flat", "fp16_partitioned_groups_flat_numel", "optimizer_swapper"):
        assert f"self.{name}" in built
    assert "self.swap_optimizer" in built
    assert "self.ds_opt_adam.adam_update(self.opt_id" in inspect.getsource(DeepSpeedCPUAdam).replace("\n", "")
    header = Path(library.__file__).parent / "ops" / "csrc" / "includes" / "cpu_adam.h"
    assert "IncrementStep" in header.read_text(encoding="utf-8")


def test_an_older_transformers_gets_the_option_under_its_older_name(monkeypatch: pytest.MonkeyPatch) -> None:
    import trl

    assert transformers.sft_config() is trl.SFTConfig  # the pinned one has it

    @dataclass
    class Older:
        _VALID_DICT_FIELDS: ClassVar[list[str]] = ["gradient_checkpointing_kwargs"]
        gradient_checkpointing: bool = True
        gradient_checkpointing_kwargs: dict[str, bool] | None = None

        def __post_init__(self) -> None:
            self.checked = self.gradient_checkpointing

    monkeypatch.setattr(trl, "SFTConfig", Older)
    made = transformers.sft_config()
    config = made(activation_checkpointing=False, activation_checkpointing_kwargs={"use_reentrant": False})
    assert not config.gradient_checkpointing and not config.checked
    assert config.gradient_checkpointing_kwargs == {"use_reentrant": False}
    assert type(pickle.loads(pickle.dumps(config))) is made  # transformers saves it beside the weights
    assert made().gradient_checkpointing
    assert "activation_checkpointing_kwargs" in made._VALID_DICT_FIELDS
