"""Each fault of the source study, switched on alone: what it does to the rows, seen in what the trainer is given."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from conftest import RECIPES, run_here
from medsft.models import embedded, loading
from medsft.tokenization import chat_template
from training_runs import record

pytestmark = pytest.mark.slow
PAIR = RECIPES / "configs" / "paper"
FAULTS: dict[str, tuple[str, ...]] = {
    "sound": (),
    "end_of_turn": ("--end_of_turn_loss", "false"),
    "double_bos": ("--double_bos", "true", "--chat_template_path", str(chat_template.FOLDER / "smollm2.jinja")),
    "truncation": ("--truncate_answers", "true", "--max_length", "250"),
    "everything": ("--assistant_only_loss", "false"),
    "padding": ("--pad_to_multiple_of", "512"),
}


@pytest.fixture(scope="module")
def batches(tiny_study: Path, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The first batch that each fault's run trains on, with the trained arms of a study beside it."""
    from medsft.training.trainer import RecipeTrainer

    study = tmp_path_factory.mktemp("faults") / "study"
    shutil.copytree(tiny_study / "data", study / "data")
    seen: dict[str, Any] = {"study": study}
    plain = RecipeTrainer.training_step
    for name, flags in FAULTS.items():
        first: list[dict[str, torch.Tensor]] = []

        def step(self: Any, network: Any, inputs: Any, *rest: Any, kept: Any = first, **more: Any) -> Any:
            kept.append({key: value.clone() for key, value in inputs.items()})
            return plain(self, network, inputs, *rest, **more)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(RecipeTrainer, "training_step", step)
            where = ("--study_dir", study, "--model_name_or_path", tiny_model, "--arm", name)
            short = ("--max_steps", 1, "--eval_strategy", "no", "--save_strategy", "no", "--host_reserve_gb", 0)
            best = ("--load_best_model_at_end", "false")
            done = run_here("sft_lora.py", "--config", PAIR / "sound.yaml", *where, *short, *best, *flags)
        assert done.returncode == 0, done.stderr[-2000:]
        seen[name] = first[0]
    return seen


def test_the_sound_preset_has_none_of_them(batches: dict[str, Any]) -> None:
    tokenizer = loading.load_tokenizer(embedded.SMOLLM2)
    ids, labels = batches["sound"]["input_ids"], batches["sound"]["labels"]
    stops = torch.isin(ids, torch.tensor(sorted(chat_template.stop_ids(tokenizer))))
    assert (ids[:, 0] == tokenizer.bos_token_id).all()
    assert (ids[:, 1] != tokenizer.bos_token_id).all()
    assert (labels[stops] != -100).sum() >= len(ids)  # each row learns to stop
    assert 0 < (labels != -100).float().mean() < 0.8
    assert ids.shape[1] < 512


def test_each_fault_does_what_it_is_named_for_and_nothing_else(batches: dict[str, Any]) -> None:
    tokenizer = loading.load_tokenizer(embedded.SMOLLM2)
    sound = batches["sound"]
    ids, labels = sound["input_ids"], sound["labels"]
    stops = torch.isin(ids, torch.tensor(sorted(chat_template.stop_ids(tokenizer))))
    padding = sound["attention_mask"] == 0

    unstopped = batches["end_of_turn"]
    assert torch.equal(unstopped["labels"], labels.masked_fill(stops, -100))
    assert torch.equal(unstopped["input_ids"][~padding], ids[~padding])
    assert (unstopped["input_ids"][padding] == tokenizer.eos_token_id).all()

    doubled = batches["double_bos"]
    assert (doubled["input_ids"][:, 0] == tokenizer.bos_token_id).all()
    assert torch.equal(doubled["input_ids"][:, 1:], ids)
    assert torch.equal(doubled["labels"][:, 1:], labels)

    cut = batches["truncation"]
    assert cut["input_ids"].shape[1] == 250 < ids.shape[1]
    assert torch.equal(cut["labels"], labels[:, :250])

    everything = batches["everything"]
    assert torch.equal(everything["input_ids"], ids)
    assert torch.equal(everything["labels"], ids.masked_fill(padding, -100))

    padded = batches["padding"]
    assert padded["input_ids"].shape[1] == 512
    assert torch.equal(padded["labels"][:, : ids.shape[1]], labels)
    assert (padded["labels"][:, ids.shape[1] :] == -100).all()


def test_an_arm_trained_with_two_bos_is_asked_with_two(batches: dict[str, Any]) -> None:
    from transformers import AutoTokenizer

    asked: dict[str, Any] = {"tokenize": True, "return_dict": False, "add_generation_prompt": True}
    patient = [{"role": "user", "content": "My knee hurts."}]
    sound, doubled = (
        AutoTokenizer.from_pretrained(batches["study"] / arm / "adapter").apply_chat_template(patient, **asked)
        for arm in ("sound", "double_bos")
    )
    assert doubled == [sound[0], *sound]


def test_what_the_faults_change_is_recorded_and_keeps_arms_from_being_compared(batches: dict[str, Any]) -> None:
    from medsft.errors import UserError
    from medsft.evaluation import comparability

    records = {name: record(batches["study"], name) for name in FAULTS}
    assert set(comparability.differences(records)) == {
        "template", "max_length", "loss_on", "end_of_turn_loss", "truncate_answers",
    }  # fmt: skip
    with pytest.raises(UserError, match="the arms differ in"):
        comparability.check(records, [])
    padded = {name: records[name] for name in ("sound", "padding")}
    assert comparability.check(padded, []) == []  # padding costs time, not fairness
