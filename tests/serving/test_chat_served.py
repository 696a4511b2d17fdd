"""The chat page over servers: fifty users at once with a whole answer each, servers that are gone, where words go."""

import html
import json
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from conftest import run_script, write_adapter_arm
from medsft.errors import UserError
from medsft.inference import adapter_pool, llama_cpp, served, served_arms
from pages_in_browser import serve
from stand_in_server import said, serving

USERS = 50
NAMES = ("baseline", "lora")


@pytest.fixture(scope="module")
def study(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("served") / "tiny"
    write_adapter_arm(folder / "lora", tiny_model, 1)
    return folder


def fetch(address: str, body: Any = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"}
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    return opener.open(urllib.request.Request(address, data, headers), timeout=600)


def send(address: str, config: Any, user: str, text: str) -> Any:
    """What the page shows a user in the end who sends this message, as a browser asks for it: the last event."""
    button = next(part["id"] for part in config["components"] if part["props"].get("elem_id") == "send")
    event = next(each["id"] for each in config["dependencies"] if [button, "click"] in each["targets"])
    join = {"data": [text, None, 0, 64, 42], "fn_index": event, "session_hash": user}
    fetch(f"{address}gradio_api/queue/join", join).close()
    with fetch(f"{address}gradio_api/queue/data?session_hash={user}") as stream:
        for line in stream:
            if line.startswith(b"data:") and (found := json.loads(line[5:]))["msg"] == "process_completed":
                return found
    raise AssertionError(f"{user}: no answer")


@pytest.mark.slow
def test_fifty_users_at_once_get_an_own_whole_answer_each(study: Path) -> None:
    with serving("baseline", seconds=0.2) as one, serving("lora", seconds=0.2) as two:
        process, address = serve(study, "--endpoint", one.address, two.address)
        try:
            config = json.load(fetch(address + "config"))

            def use(number: int) -> tuple[Any, str]:
                text = f"I am user {number} and <b>{'very ' * number}</b> tired."
                return send(address, config, f"user{number}", text), text

            with ThreadPoolExecutor(USERS) as users:
                shown = [*users.map(use, range(USERS))]
        finally:
            process.terminate()
            process.wait(timeout=60)
    for event, text in shown:
        assert event["success"], event
        *_, first, second = event["output"]["data"]
        answers = [json.dumps(box) for box in (first, second)]
        for arm in NAMES:  # under a letter each, and nobody else's
            mine = json.dumps(html.escape(said(arm, text)))[1:-1]
            assert sum(mine in answer for answer in answers) == 1, (text, answers)
        assert not any("\\u2026" in answer for answer in answers)  # none still grows
    assert one.asked.total() == two.asked.total() == USERS


def served_pool(study: Path, tiny_model: Path, *addresses: str) -> Any:
    found = served_arms.served_at(addresses, str(tiny_model), False)
    system = adapter_pool.system_of(study)
    return {arm: served_arms.connect(study, arm, str(tiny_model), found[arm], system) for arm in NAMES}


def test_a_server_that_is_gone_is_one_line_and_the_next_message_is_answered(study: Path, tiny_model: Path) -> None:
    import gradio as gr

    from medsft.serving import chat_app, conversation

    with serving("baseline") as one, serving("lora", dies_after=0) as two:
        pool = served_pool(study, tiny_model, one.address, two.address)
        now = conversation.new_conversation([*pool])
        with pytest.raises(gr.Error, match="start it again .* Your message was not kept: send it again") as error:
            [*chat_app.turn(pool, "It hurts.", now, 0.0, 64, 1)]
        assert "\n" not in str(error.value) and all(turns == [] for turns in now["turns"].values())
        two.dies_after = None  # it was started again
        last = [*chat_app.turn(pool, "It hurts.", now, 0.0, 64, 1)][-1]
    shown = {box[0]["content"] for box in last["boxes"]}
    assert shown == {said(arm, "It hurts.") for arm in NAMES} and now["cut"] == {}


def test_addresses_of_one_model_stand_for_one_arm_and_the_base_model_is_the_baseline(
    study: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(str(tiny_model)) as base, serving("lora") as one, serving("lora") as two:
        addresses = (base.address, one.address, "http://127.0.0.1:9/v1", two.address)
        pool = served_pool(study, tiny_model, *addresses)
        assert pool["baseline"].servers.model == str(tiny_model)
        assert pool["lora"].servers.addresses == tuple(served.base_of(each.address) for each in (one, two))
    assert "left out: endpoint http://127.0.0.1:9: does not list its models" in capsys.readouterr().err


def test_the_page_says_where_words_go(study: Path) -> None:
    from medsft.serving import chat_app

    def arm(*addresses: str) -> Any:
        servers: Any = SimpleNamespace(addresses=addresses)
        return served_arms.ServedArm(servers, None, 1, adapter_pool.NO_SYSTEM)  # type: ignore[arg-type]

    assert chat_app.where_words_go({"a": arm("http://127.0.0.1:1", "http://localhost:2")}) == chat_app.STAYS
    there = chat_app.where_words_go({"a": arm("http://127.0.0.1:1"), "b": arm("http://node7:8000", "http://node3:1")})
    assert there == "What you type is sent to node3, node7."


def test_quantized_exports_stand_beside_the_originals_where_llama_cpp_is(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    folder = shutil.copytree(study, tmp_path / "study")
    for kind in ("q8_0", "q4_k_m"):
        (folder / "lora" / "export" / f"gguf-{kind}").mkdir(parents=True)
        (folder / "lora" / "export" / f"gguf-{kind}" / "lora.gguf").touch()
    for here, shown in ((False, []), (True, ["lora_q8", "lora_q4"])):
        monkeypatch.setattr(llama_cpp, "available", lambda here=here: here)
        assert adapter_pool.arm_names(folder) == [*NAMES, *shown]
        assert adapter_pool.arm_names(folder, "lora_q4") == ["lora_q4"]
    assert adapter_pool.arm_names(study) == [*NAMES]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("http://10.1.2.3:8000/v1",), "10.1.2.3 is not this machine; --allow_remote true"),
        (("http://127.0.0.1:9/v1",), "does not list its models"),
    ],
)
def test_servers_that_cannot_answer_are_refused(study: Path, words: tuple[str, ...], message: str) -> None:
    done = run_script("chat.py", "--study_dir", study, "--port", 0, "--endpoint", *words)
    assert done.returncode == 2
    assert message in done.stderr and len(done.stderr.splitlines()) == 1


def test_servers_of_other_models_are_refused() -> None:
    with pytest.raises(UserError, match="it serves gpt, and none is an arm of this study .baseline, lora."):
        served_arms.check_some({"gpt": ["http://127.0.0.1:1"]}, NAMES)
