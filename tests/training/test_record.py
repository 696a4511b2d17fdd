"""What train.json and the summary before the first step count."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import LlamaConfig
from trl import SFTConfig

from medsft.arguments import StudyArguments
from medsft.records import Memory, TrainRecord
from medsft.training import record, summary

CONTRACT = (
    "arm base_model total_parameters trainable_parameters trainable_percent steps tokens_seen answer_tokens_seen "
    "wall_seconds tokens_per_second peak_memory predicted_memory history best_step seed versions fingerprint"
)


def test_the_record_has_the_keys_of_the_contract() -> None:
    assert set(CONTRACT.split()) <= set(TrainRecord.__annotations__)


def test_sharded_parameters_are_counted_whole_and_4_bit_ones_unpacked() -> None:
    sharded, frozen = torch.nn.Parameter(torch.zeros(0)), torch.nn.Parameter(torch.zeros(3), requires_grad=False)
    sharded.ds_numel = 100  # type: ignore[attr-defined]

    class Params4bit(torch.nn.Parameter):
        pass

    packed = Params4bit(torch.zeros(8), requires_grad=False)
    packed.quant_state = SimpleNamespace(shape=torch.Size([4, 4]))  # type: ignore[attr-defined]
    network: Any = SimpleNamespace(parameters=lambda: [sharded, frozen, packed])
    assert record.parameter_counts(network) == (100, 119)


def test_the_summary_names_rows_steps_precision_and_memory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args = SFTConfig(
        output_dir=str(tmp_path), use_cpu=True, bf16=False, per_device_train_batch_size=2,
        gradient_accumulation_steps=2, num_train_epochs=2, report_to="none",
    )  # fmt: skip
    model: Any = torch.nn.Linear(4, 4)
    model.config = LlamaConfig(attn_implementation="eager")
    rows = list(range(40))
    trainer: Any = SimpleNamespace(
        is_world_process_zero=lambda: True,
        args=args,
        train_dataset=rows,
        model=model,
        accelerator=SimpleNamespace(distributed_type=SimpleNamespace(value="NO")),
        uses_flash_adamw=False,
    )
    data: Any = SimpleNamespace(train=rows, tokens=4000, answer_tokens=1500)
    predicted: Memory = {"device_bytes": 0, "host_bytes": 3 * 10**9}
    summary.print_summary(trainer, data, StudyArguments(study_dir=str(tmp_path), arm="lora"), predicted)
    shown = " ".join(capsys.readouterr().out.split())
    assert "4 rows, about 400 tokens" in shown
    assert "20 (2.00 epochs of 10)" in shown
    for part in ("arm 'lora'", "trained float32", "eager", "3.0 GB"):
        assert part in shown
