"""What the callbacks count, when they stop a run, and what they write."""

import csv
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import TrainerControl, TrainerState, TrainingArguments

from medsft.errors import DoesNotFit, UserError
from medsft.training.callbacks import meter as meter_module
from medsft.training.callbacks import stopping
from medsft.training.callbacks.history import History
from medsft.training.callbacks.meter import Meter, duration
from medsft.training.callbacks.progress import Progress
from medsft.training.callbacks.stopping import StopEarly

GUESSING = 10.8  # nats: ln(49,152)


def arguments(folder: Path) -> TrainingArguments:
    return TrainingArguments(output_dir=str(folder), use_cpu=True)


def state(**values: Any) -> TrainerState:
    return TrainerState(**{"is_world_process_zero": True, "max_steps": 10, **values})


def test_tokens_are_counted_without_padding_and_answers_by_their_labels() -> None:
    meter = Meter()
    ids = torch.arange(8).reshape(2, 4)
    mask = torch.tensor([[1, 1, 1, 0], [1, 1, 1, 1]])
    labels = torch.tensor([[-100, 1, 2, -100], [-100, -100, 6, 7]])
    meter.count({"input_ids": ids, "attention_mask": mask, "labels": labels})
    assert (meter.tokens, meter.answer_tokens) == (7, 4)
    meter.count({"input_ids": ids, "labels": labels})  # padding-free rows have no mask
    assert (meter.tokens, meter.answer_tokens) == (15, 8)


def test_a_resumed_run_continues_the_counts(tmp_path: Path) -> None:
    meter = Meter(tokens=5, answer_tokens=3, joules=1.5, step_seconds=[2.0], read=7, written=9)
    kept = meter.state()
    again = Meter.from_state(kept)
    assert again.state()["args"] | {"wall": 0.0} == kept["args"] | {"wall": 0.0}
    args, control = arguments(tmp_path), TrainerControl()
    again.on_train_begin(args, state(), control)
    again.on_step_begin(args, state(), control)
    again.on_step_end(args, state(), control)
    assert again.tokens == 5
    assert len(again.step_seconds) == 2
    again.on_train_begin(args, state(is_world_process_zero=False), control)  # other ranks start from nothing
    assert (again.tokens, again.answer_tokens, again.joules) == (0, 0, 0.0)


def test_the_time_before_a_checkpoint_is_part_of_a_resumed_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1_000.0
    monkeypatch.setattr(meter_module.time, "monotonic", lambda: now)
    meter = Meter()
    meter.on_train_begin(arguments(tmp_path), state(), TrainerControl())
    now += 100
    kept = meter.state()
    again = Meter.from_state(kept)
    now += 3_600  # the machine was gone for an hour
    again.on_train_begin(arguments(tmp_path), state(), TrainerControl())
    now += 20
    assert again.wall == 100 and again.state()["args"]["wall"] == 120


def test_one_long_answer_on_one_of_many_ranks_is_no_divergence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The long answer's rank reads 40 nats, the other fifteen 2."""
    callback, args = StopEarly(49_152, 0), arguments(tmp_path)
    monkeypatch.setattr(TrainingArguments, "world_size", property(lambda _: 16))

    def all_reduce(tensor: torch.Tensor, op: object = None) -> None:
        if tensor.is_floating_point():
            tensor += 15 * 2 / 16

    monkeypatch.setattr(torch.distributed, "all_reduce", all_reduce)
    callback.add_loss(torch.tensor(40.0))
    control = TrainerControl()
    callback.on_step_end(args, state(), control)
    assert not control.should_training_stop and callback.loss == pytest.approx(4.375)
    callback.add_loss(torch.tensor(float("nan")))
    callback.on_step_end(args, state(), control)
    assert control.should_training_stop


@pytest.mark.parametrize(("seconds", "text"), [(40, "40 s"), (420, "7 min"), (7500, "2 h 05 min")])
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def step(callback: StopEarly, folder: Path, loss: float, saves: bool = False, weight: float = 1.0) -> TrainerControl:
    callback.add_loss(torch.tensor(loss))
    model, control = torch.nn.Linear(1, 1), TrainerControl(should_save=saves, should_evaluate=True)
    torch.nn.init.constant_(model.weight, weight)
    callback.on_step_end(arguments(folder), state(), control, model=model)
    return control


@pytest.mark.parametrize(
    ("loss", "saves", "weight", "stops"),
    [
        (GUESSING, True, 1.0, False),
        (2.1 * GUESSING, True, 1.0, True),
        (float("nan"), True, 1.0, True),
        (2.0, True, float("inf"), True),
        (2.0, False, float("inf"), False),  # looked at before a save only
    ],
)
def test_a_diverged_run_stops_without_a_checkpoint(
    tmp_path: Path, loss: float, saves: bool, weight: float, stops: bool
) -> None:
    callback = StopEarly(vocabulary=49_152, host_floor_bytes=0)
    control = step(callback, tmp_path, loss, saves, weight)
    assert control.should_training_stop is stops
    assert control.should_save is (saves and not stops)
    if stops:
        with pytest.raises(UserError, match=r"diverged at step 3.*there is no checkpoint yet"):
            callback.raise_if_stopped(3, 1e-4, None)
    else:
        callback.raise_if_stopped(3, 1e-4, None)


def test_short_of_host_memory_a_checkpoint_is_written_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopping, "host_memory", lambda: (8 * 10**9, 10**8))
    callback = StopEarly(vocabulary=49_152, host_floor_bytes=10**9)
    control = step(callback, tmp_path, 2.0)
    assert control.should_training_stop and control.should_save and not control.should_evaluate
    with pytest.raises(DoesNotFit, match=r"0\.1 GB of host memory were left at step 3.*checkpoint-2"):
        callback.raise_if_stopped(3, 1e-4, tmp_path / "checkpoint-2")


def test_the_history_is_written_whole_at_each_log(tmp_path: Path) -> None:
    rows = [{"step": 1, "loss": 3.0, "other": 1}, {"step": 2, "eval_loss": 2.5}, {"step": 2, "train_runtime": 9.0}]
    for _ in range(2):
        History().on_log(arguments(tmp_path), state(log_history=rows), TrainerControl())
    with (tmp_path / "history.csv").open() as file:
        found = list(csv.DictReader(file))
    assert [(row["step"], row["loss"], row["eval_loss"]) for row in found] == [("1", "3.0", ""), ("2", "", "2.5")]


def test_the_progress_bar_follows_the_steps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    progress, args, control = Progress(), arguments(tmp_path), TrainerControl()
    progress.on_train_begin(args, state(global_step=2), control)
    bar: Any = progress.bar
    progress.on_step_end(args, state(global_step=3), control)
    assert (bar.n, bar.total) == (3, 10)
    progress.on_evaluate(args, state(global_step=3), control, metrics={"eval_loss": 2.5})
    progress.on_train_end(args, state(), control)
    assert progress.bar is None
    assert "step 3 of 10: dev loss 2.5000" in "".join(capsys.readouterr())
    others = Progress()
    others.on_train_begin(args, state(is_world_process_zero=False), control)
    assert others.bar is None


def test_weights_that_a_rank_holds_are_looked_at_where_zero_keeps_them() -> None:
    parameter = torch.nn.Parameter(torch.zeros(0))
    parameter.ds_tensor = torch.tensor([float("nan")])  # type: ignore[attr-defined]
    network: Any = SimpleNamespace(parameters=lambda: [parameter])
    assert not stopping.finite(network)
