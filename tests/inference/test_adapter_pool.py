"""Arms that share one base answer as each of them does alone, also when they alternate."""

import json
from pathlib import Path
from typing import Any

import pytest

from conftest import write_adapter_arm
from medsft.errors import UserError
from medsft.inference import adapter_pool
from medsft.models import loading
from medsft.tokenization.chat_template import prompt_ids
from medsft.tokenization.system_turns import placed

ASKED = [{"role": "user", "content": "My knee hurts when I walk."}]
NAMES = ["baseline", "lora_a", "lora_b"]


@pytest.fixture(scope="module")
def study(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study") / "tiny"
    for seed, arm in enumerate(NAMES[1:]):
        write_adapter_arm(folder / arm, tiny_model, seed)
    return folder


@pytest.fixture(scope="module")
def arms(study: Path, tiny_model: Path) -> dict[str, adapter_pool.LoadedArm]:
    return adapter_pool.load(study, NAMES, str(tiny_model), "float32")


def alone(study: Path, base: Path, arm: str) -> str:
    """The arm's greedy answer by transformers' own generate, with nothing shared."""
    from peft import PeftModel

    network: Any = loading.load_model(str(base), "float32")
    tokenizer = loading.load_tokenizer(str(base))
    if arm != "baseline":
        network = PeftModel.from_pretrained(network, str(study / arm / "adapter"))
    inputs = tokenizer.apply_chat_template(ASKED, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    ids = network.generate(**inputs, max_new_tokens=12, do_sample=False)[0, inputs["input_ids"].shape[1] :]
    return tokenizer.decode(ids, skip_special_tokens=True)


def test_taking_turns_changes_no_answer(study: Path, tiny_model: Path, arms: dict[str, adapter_pool.LoadedArm]) -> None:
    assert len({id(arm.network) for arm in arms.values()}) == 1  # one copy of the base
    *_, texts = adapter_pool.side_by_side({name: adapter_pool.answer(arms[name], ASKED, 12, 0, 0) for name in NAMES})
    assert texts == {name: alone(study, tiny_model, name) for name in NAMES}
    assert len(set(texts.values())) == 3


@pytest.mark.parametrize("how", ["keep", "merge", "drop"])
def test_arms_are_asked_after_the_system_text_of_their_rows(
    study: Path, arms: dict[str, adapter_pool.LoadedArm], how: str
) -> None:
    text = "" if how == "drop" else "Answer in two sentences."
    report = {"system_turns": {"rows": 9, "how": how, "text": text}}
    (study / "data").mkdir(exist_ok=True)
    (study / "data" / "data_report.json").write_text(json.dumps(report))
    arm = arms["baseline"]._replace(system=adapter_pool.system_of(study))
    trained = placed("Answer in two sentences.", ASKED, how)
    assert adapter_pool.asked_ids(arm, ASKED) == prompt_ids(arm.tokenizer, trained)


def test_a_study_from_before_there_were_system_turns_is_asked_without(tmp_path: Path) -> None:
    assert adapter_pool.system_of(tmp_path)["text"] == ""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "data_report.json").write_text("{}")
    assert adapter_pool.system_of(tmp_path)["text"] == ""


def test_a_seed_repeats_a_sampled_answer(arms: dict[str, adapter_pool.LoadedArm]) -> None:
    one, same, other = (list(adapter_pool.answer(arms["lora_a"], ASKED, 12, 1.0, seed)) for seed in (1, 1, 2))
    assert one == same != other


def test_all_arms_are_found_and_a_wrong_name_is_refused(study: Path, tmp_path: Path) -> None:
    assert adapter_pool.arm_names(study) == NAMES
    assert adapter_pool.arm_names(study, "lora_b, baseline") == ["lora_b", "baseline"]
    with pytest.raises(UserError, match="--arms lora: no such arm.*baseline, lora_a, lora_b"):
        adapter_pool.arm_names(study, "baseline,lora")
    with pytest.raises(UserError, match="no trained arm"):
        adapter_pool.arm_names(tmp_path)
