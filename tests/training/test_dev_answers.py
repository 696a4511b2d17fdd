"""Dev rows are answered while an arm is trained: what is logged is true, and a checkpoint can be chosen by it."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from transformers import MambaConfig
from transformers.generation import GenerateDecoderOnlyOutput

from medsft.data.split_files import load_split
from medsft.evaluation import dev_answers
from medsft.models import loading
from medsft.training.setup.dev_answers import MORE_IS_BETTER, DevAnswers
from training_runs import ACCELERATE, record, train

EVERY = ("--eval_steps", 1, "--save_steps", 1, "--max_steps", 3, "--load_best_model_at_end", "true")
ANSWERED = ("--generate_rows", 3, "--generate_tokens", 12)


@pytest.fixture(scope="module")
def study(tiny_study: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("answered") / "study"
    shutil.copytree(tiny_study / "data", folder / "data")
    return folder


class Parrot(torch.nn.Module):
    """Says the doctor's answer of the first row to everybody, then ends its turn: greedy generation of a known text."""

    def __init__(self, ids: list[int]) -> None:
        super().__init__()
        self.ids, self.device, self.config = ids, torch.device("cpu"), MambaConfig()  # no keys and values to keep

    def generate(self, input_ids: torch.Tensor, **_: object) -> GenerateDecoderOnlyOutput:
        said = torch.cat([input_ids, torch.tensor([self.ids] * len(input_ids))], dim=1)
        return GenerateDecoderOnlyOutput(sequences=said)


def test_a_perfect_answer_has_rouge_1_and_ends_its_turn(tiny_model: Path) -> None:
    tokenizer = loading.load_tokenizer(str(tiny_model))
    tokenizer.padding_side = "left"
    said = "Rest the knee, cool it and see your doctor if the pain stays for more than two weeks."
    rows = [
        [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]
        for asked, answer in (("My knee hurts.", said), ("I cough.", "Honey."))
    ]
    ids = tokenizer(said, add_special_tokens=False)["input_ids"]
    found = dev_answers.score(Parrot([*ids, tokenizer.convert_tokens_to_ids("<|im_end|>")]), tokenizer, rows, 64)
    assert found == {"rougeL": [1.0, 0.0], "rouge1": [1.0, 0.0], "end_of_turn": [1.0, 1.0], "loop": [0.0, 0.0]}
    looping = dev_answers.score(Parrot(ids * 4), tokenizer, rows, 64)
    assert looping["loop"] == [1.0, 1.0] and looping["end_of_turn"] == [0.0, 0.0]
    whole = DevAnswers(dev_answers.score, tokenizer, rows, 64).measure(Parrot(ids * 4), 0, 1, torch.device("cpu"))
    assert set(whole) == set(MORE_IS_BETTER) == set(found) and whole["loop"] == 1.0


@pytest.mark.slow
def test_answers_are_logged_and_choose_the_checkpoint(study: Path, tiny_model: Path) -> None:
    done = train(study, tiny_model, "lora", "chosen", *EVERY, *ANSWERED, "--choose_by", "rougeL")
    assert done.returncode == 0, done.stderr[-2000:]
    kept = record(study, "chosen")
    rows = [row for row in kept["history"] if "eval_loss" in row]
    assert len(rows) >= 3 and all({f"eval_{name}" for name in MORE_IS_BETTER} <= set(row) for row in rows)
    best = max(row["eval_rougeL"] for row in rows if row["step"] > 0)
    (chosen,) = [row for row in rows if row["step"] == kept["saved_step"]]
    assert chosen["eval_rougeL"] == best
    state = json.loads((study / "chosen" / f"checkpoint-{kept['saved_step']}" / "trainer_state.json").read_text())
    assert state["best_metric"] == best
    assert (study / "chosen" / "history.csv").read_text().splitlines()[0].endswith(
        "eval_rougeL,eval_rouge1,eval_end_of_turn,eval_loop"
    )  # fmt: skip
    split = load_split(str(study), "dev").select(range(3))
    network = loading.load_model(str(tiny_model), "bfloat16")
    tokenizer = loading.load_tokenizer(str(tiny_model))
    tokenizer.padding_side = "left"
    before = dev_answers.score(network.eval(), tokenizer, split["messages"], 12)  # of the untrained model
    first = next(row for row in rows if row["step"] == min(row["step"] for row in rows))
    if first["step"] == 0:
        assert first["eval_rouge1"] == pytest.approx(sum(before["rouge1"]) / 3, abs=0.02)


@pytest.mark.slow
def test_two_processes_share_the_rows(study: Path, tiny_model: Path, tmp_path: Path) -> None:
    config = {"distributed_type": "MULTI_CPU", "compute_environment": "LOCAL_MACHINE", "use_cpu": True}
    config |= {"num_processes": 2, "num_machines": 1, "machine_rank": 0, "mixed_precision": "no"}
    (tmp_path / "two.yaml").write_text(yaml.safe_dump(config))
    one = train(study, tiny_model, "lora", "one", *EVERY, *ANSWERED)
    launcher = (*ACCELERATE, "--config_file", str(tmp_path / "two.yaml"))
    two = train(study, tiny_model, "lora", "two", *EVERY, *ANSWERED, launcher=launcher)
    assert (one.returncode, two.returncode) == (0, 0), two.stderr[-2000:]
    first = [next(row for row in record(study, arm)["history"] if "eval_loss" in row) for arm in ("one", "two")]
    assert first[0]["step"] == first[1]["step"] == 0
    assert [first[0][f"eval_{name}"] for name in MORE_IS_BETTER] == pytest.approx(
        [first[1][f"eval_{name}"] for name in MORE_IS_BETTER], abs=1e-6
    )


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--choose_by", "rougel", *ANSWERED, *EVERY), "choose_by: 'rougel' is not known"),
        (("--choose_by", "loop", *EVERY), "choose_by needs generate_rows"),
        (("--choose_by", "loop", *ANSWERED), "choose_by needs generate_rows"),
        ((*ANSWERED, "--eval_strategy", "no"), "set eval_strategy"),
        (("--generate_rows", -1), "generate_rows must be at least 0"),
    ],
)
def test_a_choice_by_nothing_is_refused_before_training(
    study: Path, tiny_model: Path, flags: tuple[object, ...], message: str
) -> None:
    done = train(study, tiny_model, "lora", "refused", *flags)
    assert done.returncode == 2 and message in done.stderr
    assert not (study / "refused").exists()


def test_sharded_weights_are_refused(study: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from types import SimpleNamespace

    from medsft.arguments import StudyArguments
    from medsft.errors import UserError
    from medsft.training.setup.dev_answers import check

    plugin = SimpleNamespace(deepspeed_config={"zero_optimization": {"stage": 3}})
    config = SimpleNamespace(load_best_model_at_end=True, eval_strategy="steps", deepspeed_plugin=plugin, fsdp=False)
    with pytest.raises(UserError, match="ZeRO-3 and FSDP"):
        check(StudyArguments(generate_rows=2), config)
    plugin.deepspeed_config["zero_optimization"]["stage"] = 2
    check(StudyArguments(generate_rows=2), config)
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(UserError, match="ZeRO-3 and FSDP"):
        check(StudyArguments(generate_rows=2), config)
