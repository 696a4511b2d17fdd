"""Rows spread over servers of a model: by load, around one that dies, and with one line where none is left."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from conftest import run_here
from medsft.errors import UserError
from medsft.files import read_json, read_jsonl
from medsft.inference import http_json, served
from medsft.inference.sampling import Sampling, of_openai
from medsft.models import embedded, loading
from medsft.tokenization.chat_template import stop_ids
from stand_in_server import StandIn, said, serving

GONE = "http://127.0.0.1:9/v1"  # the discard port, where nothing listens


@pytest.fixture
def start() -> Iterator[Any]:
    with ExitStack() as running:
        yield lambda *words, **options: running.enter_context(serving(*words, **options))


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return loading.load_tokenizer(embedded.SMOLLM2)


def answers(engine: served.Engine, tokenizer: Any, count: int, sampling: Sampling | None = None) -> list[str]:
    dialogues: Any = [[{"role": "user", "content": f"Question {at}?"}] for at in range(count)]
    found = served.complete_messages(engine, dialogues, tokenizer, 64, stop_ids(tokenizer), sampling)
    assert all(ids[-1] in stop_ids(tokenizer) for ids in found)
    return [tokenizer.decode(ids[:-1]) for ids in found]


def expected(count: int) -> list[str]:
    return [said("lora", f"Question {at}?") for at in range(count)]


def test_a_slow_server_gets_fewer_rows(start: Any, tokenizer: Any) -> None:
    quick, slow = start("lora"), start("lora", seconds=0.5)
    engine = served.connect([quick.address, slow.address], "lora", tokenizer, 2)
    assert answers(engine, tokenizer, 40) == expected(40)
    assert 0 < slow.asked.total() < quick.asked.total()
    assert slow.asked.total() + quick.asked.total() == 40


@pytest.mark.parametrize("fault", ["dies_after", "fails_after"])
def test_a_dead_server_is_dropped_with_a_word_and_its_rows_go_to_the_others(
    start: Any, tokenizer: Any, fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    dead, alive = start("lora", **{fault: 3}), start("lora", seconds=0.02)
    engine = served.connect([dead.address, alive.address], "lora", tokenizer, 2)
    assert answers(engine, tokenizer, 40) == expected(40)
    assert alive.asked.total() >= 37
    said_so = [line for line in capsys.readouterr().err.splitlines() if "dropped, its rows go to the other 1" in line]
    assert len(said_so) == 1 and dead.address.removesuffix("/v1") in said_so[0]
    before = dead.asked.total()
    assert answers(engine, tokenizer, 10) == expected(10)
    assert dead.asked.total() == before  # it is asked no more


def test_a_server_that_is_not_there_at_the_start_is_left_out(
    start: Any, tokenizer: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    alive = start("lora")
    engine = served.connect([GONE, alive.address], "lora", tokenizer, 2)
    assert engine.addresses == (alive.address.removesuffix("/v1"),)
    assert "http://127.0.0.1:9: no answer" in capsys.readouterr().err


def test_what_is_wrong_with_all_servers_is_one_line(start: Any, tokenizer: Any) -> None:
    with pytest.raises(UserError, match="no answer; is the server running"):
        served.connect([GONE], "lora", tokenizer, 2)
    server = start("lora", dies_after=0)
    with pytest.raises(UserError, match="no model 'full'; it serves lora: --served_model"):
        served.connect([server.address], "full", tokenizer, 2)
    engine = served.connect([server.address], "lora", tokenizer, 2)
    with pytest.raises(UserError, match="no other server is left; start it again and repeat this") as error:
        answers(engine, tokenizer, 4)
    assert "\n" not in str(error.value)
    broken = served.connect([start("lora", fails_after=0).address], "lora", tokenizer, 2)
    with pytest.raises(UserError, match="status 500: .*out of memory"):
        answers(broken, tokenizer, 1)


def test_a_seed_is_that_of_the_question_whatever_is_asked_beside_it() -> None:
    drawn = Sampling(0.7, 0.9, 3)
    one, same, other = (of_openai(drawn, asked)["seed"] for asked in ([1, 2], [1, 2], [1, 3]))
    assert one == same != other
    assert one != of_openai(drawn._replace(seed=4), [1, 2])["seed"]


def test_this_machine_is_not_asked_by_way_of_a_proxy(start: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, GONE)
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    assert http_json.request(start("lora").address + "/models")["data"][0]["id"] == "lora"


@pytest.mark.slow
def test_generate_ends_with_all_rows_when_one_of_its_servers_dies(
    start: Any, tiny_study: Path, tiny_model: Path
) -> None:
    servers: list[StandIn] = [start("baseline"), start("baseline", dies_after=5)]
    words = ("--study_dir", tiny_study, "--model_name_or_path", tiny_model, "--max_rows", 20, "--batch_size", 2)
    done = run_here("generate.py", *words, "--endpoint", *(server.address for server in servers))
    assert done.returncode == 0, done.stderr
    assert "dropped, its rows go to the other 1" in done.stderr
    rows = read_jsonl(tiny_study / "baseline" / "generations.jsonl")
    assert len(rows) == 20
    for row in rows:
        assert row["prediction"] == said("baseline", row["messages"][-1]["content"])
    assert read_json(tiny_study / "baseline" / "generation.json")["engine"] == served.MESSAGES
