"""Which model an untrained arm answers with: the one that the study's arms were trained from."""

from pathlib import Path

import pytest

from medsft.arguments import GenerateArguments
from medsft.errors import UserError
from medsft.files import write_json
from medsft.inference import generation
from medsft.models import embedded, loading


def test_the_baseline_is_the_model_that_was_trained(tmp_path: Path) -> None:
    asked = GenerateArguments(str(tmp_path), "baseline", model_name_or_path="other/model")
    assert generation.arm_base(asked)[0] == "other/model"  # nothing is trained yet
    write_json(tmp_path / "lora" / "train.json", {"base_model": "mistralai/Mistral-7B-Instruct-v0.2"})
    for arm in ("baseline", "baseline_nf4", "baseline_prompted"):
        found = generation.arm_base(GenerateArguments(str(tmp_path), arm))
        assert found[0] == "mistralai/Mistral-7B-Instruct-v0.2" and found[2] is None
    with pytest.raises(UserError, match=r"use --model_name_or_path mistralai/Mistral-7B-Instruct-v0\.2"):
        generation.arm_base(asked)


def test_the_same_weights_by_another_name_are_the_same_model(tmp_path: Path) -> None:
    write_json(tmp_path / "lora" / "train.json", {"base_model": embedded.SMOLLM2})
    folder = loading.resolve(embedded.SMOLLM2)
    asked = GenerateArguments(str(tmp_path), "baseline", model_name_or_path=str(folder))
    assert generation.arm_base(asked)[0] == embedded.SMOLLM2
