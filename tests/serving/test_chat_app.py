"""The chat page in a real browser: both answers, red flags, hostile text, a counted vote, nothing fetched from afar."""

import json
import re
import urllib.error
import urllib.request
from collections.abc import Generator, Iterator
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from conftest import run_script, write_adapter_arm
from medsft.study import look
from pages_in_browser import browser, serve  # noqa: F401 - a fixture

HOSTILE = "I have crushing chest pain. <script>window.hacked = 1</script> ![x](http://evil.example/x.png) <b>bold</b>"

# this many answers are there, and none is still growing
FINISHED = """wanted => {
    const answers = [...document.querySelectorAll('.bot.message')].map(box => box.innerText.trim());
    const done = text => text && text != 'Loading content' && !text.endsWith('…');
    return answers.length == wanted && answers.every(done);
}"""


@pytest.fixture(scope="module")
def study(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study") / "tiny"
    for seed, arm in enumerate(["lora", "wide"]):
        write_adapter_arm(folder / arm, tiny_model, seed)
    return folder


@pytest.fixture(scope="module")
def address(study: Path) -> Iterator[str]:
    process, address = serve(study, "--arms", "lora,wide")
    yield address
    process.terminate()
    process.wait(timeout=30)


@pytest.mark.slow
def test_a_message_two_answers_a_vote_and_nothing_from_afar(
    browser: Any,  # noqa: F811
    address: str,
    study: Path,
) -> None:
    page = browser.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(address)
    page.click("text=Settings")
    page.fill("#limit input[type=number]", "24")
    page.keyboard.press("Tab")  # the page takes the number when the field is left
    page.fill("#message textarea", HOSTILE)
    page.click("#send")
    answers = {}
    page.wait_for_function(FINISHED, arg=2, timeout=60_000)
    for letter in "AB":
        answers[letter] = page.inner_text(f"#answer-{letter} .bot.message")
        assert page.query_selector(f"#answer-{letter} .message :is(b, script, img)") is None
    assert page.input_value("#asked textarea") == HOSTILE  # once, and hostile or not, it is text
    assert page.query_selector(".user.message") is None
    assert answers["A"] != answers["B"] and all(answers.values())
    assert page.evaluate("window.hacked") is None
    assert "crushing" in page.inner_text("#red-flags")
    assert "Not medical advice" in page.inner_text("#notice")

    assert page.inner_text("#notice h1") == "model: 2 arms of study tiny"
    page.click("text=B is better")
    page.click("#unsafe label >> nth=0")
    page.click("#vote")
    page.wait_for_selector("#names code")
    row = json.loads((study / "chat" / "votes.jsonl").read_text())
    assert f"B = {row['choice']}" in page.inner_text("#names")
    assert row["unsafe"] == [row["arms"][0]] and row["blinded"] is True
    assert row["choice"] == row["arms"][1] and set(row["arms"]) == {"lora", "wide"} and "dialogues" not in row
    assert "share won" in page.inner_text("#tally") and "Marked unsafe" in page.inner_text("#tally")
    later = browser.new_page()
    later.goto(address)
    later.wait_for_selector("#tally >> text=share won")  # the tally comes with the page
    later.close()

    page.fill("#message textarea", "Since yesterday.")
    page.keyboard.press("Enter")
    page.wait_for_function(FINISHED, arg=4, timeout=60_000)
    page.click("#export")
    page.wait_for_function("document.querySelector('#exported textarea, #exported input').value", timeout=30_000)
    (file,) = (study / "chat").glob("conversation-*.json")
    turns = json.loads(file.read_text())["turns"]["lora"]
    assert [turn["role"] for turn in turns] == ["user", "assistant", "user", "assistant"]
    assert turns[0]["content"] == HOSTILE

    page.click("#new")
    page.wait_for_function("document.querySelectorAll('.bot.message').length == 0", timeout=30_000)
    assert [url for url in asked if not url.startswith((address, "data:", "blob:"))] == []
    page.close()


DRAWN = """selector => {
    const element = document.querySelector(selector);
    let behind = element, colour = 'rgba(0, 0, 0, 0)';
    while (behind && colour == 'rgba(0, 0, 0, 0)') {
        colour = getComputedStyle(behind).backgroundColor;
        behind = behind.parentElement;
    }
    return [getComputedStyle(element).color, colour];
}"""


def as_hex(colour: str) -> str:
    return "#" + "".join(f"{int(part):02x}" for part in re.findall(r"\d+", colour)[:3])


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_text_can_be_read_as_the_browser_draws_it(
    browser: Any,  # noqa: F811
    address: str,
    scheme: str,
    width: int,
) -> None:
    page = browser.new_page(viewport={"width": width, "height": 844})
    page.goto(f"{address}?__theme={scheme}")
    page.fill("#message textarea", "I have crushing chest pain.")
    page.click("#send")
    page.wait_for_selector("#red-flags p")
    page.mouse.move(0, 0)  # off the button, whose colours change
    for selector in ("#red-flags p", "#red-flags strong", "#send", "#new", "#choice label span", "#notice p", "#vote"):
        ink, behind = page.evaluate(DRAWN, selector)
        assert look.contrast(as_hex(ink), as_hex(behind)) >= look.TEXT, (selector, ink, behind)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("document.querySelector('#message textarea').getBoundingClientRect().bottom") < 844
    tops = [page.evaluate(f"document.querySelector('#answer-{x}').getBoundingClientRect().top") for x in "AB"]
    assert (tops[0] == tops[1]) == (width == 1280)  # side by side where there is room
    page.close()


def test_the_pages_take_their_colours_from_the_tested_ones() -> None:
    from medsft.serving import page_style

    literal = set(re.findall(r"#[0-9a-f]{6}\b", page_style.CSS))
    assert literal <= {*look.LIGHT.values(), *look.DARK.values()} and "http" not in page_style.CSS
    assert page_style.theme().button_primary_background_fill == look.LIGHT["accent"]


@pytest.mark.slow
def test_with_a_password_nothing_is_served_without_it(study: Path) -> None:
    process, address = serve(study, "--host", "0.0.0.0", MEDSFT_PASSWORD="correct horse")
    try:
        local = re.sub(r"//[^:]+:", "//127.0.0.1:", address)
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.build_opener(urllib.request.ProxyHandler({})).open(local + "config")
        assert refused.value.code == 401
    finally:
        process.terminate()
        process.wait(timeout=30)


@pytest.fixture
def parrots(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Two arms that say 'one two three' without a model, and can read 60 tokens."""
    from transformers import LlamaConfig

    from medsft.inference import adapter_pool
    from medsft.models import embedded, loading

    def answer(_arm: Any, _turns: Any, longest: int, *_: Any) -> Generator[str, None, bool]:
        yield from ["one", "one two", "one two three"]
        return longest > 3  # else the end of the turn does not fit

    monkeypatch.setattr(adapter_pool, "answer", answer)
    network = SimpleNamespace(config=LlamaConfig(max_position_embeddings=60))
    tokenizer = loading.load_tokenizer(embedded.SMOLLM2)
    return {name: adapter_pool.LoadedArm(network, tokenizer, nullcontext) for name in ("lora", "wide")}


@pytest.mark.slow
def test_an_answer_that_was_broken_off_leaves_no_turn_behind(parrots: dict[str, Any], tmp_path: Path) -> None:
    from medsft.serving import chat_app, conversation

    now = conversation.new_conversation([*parrots])
    broken = chat_app.turn(parrots, "It hurts.", now, 0.0, 8, 1)
    next(broken)
    broken.close()  # the browser is gone
    shown = [*chat_app.turn(parrots, "It still hurts.", now, 0.0, 8, 1)]
    for arm in parrots:
        said = [(turn["role"], turn["content"]) for turn in now["turns"][arm]]
        assert said == [("user", "It still hurts."), ("assistant", "one two three")]
    assert shown[1]["boxes"][0] == [{"role": "assistant", "content": "one …"}] and len(shown[-1]["boxes"]) == 2
    assert shown[-1]["asked"]["value"] == "It still hurts." and now["cut"] == {}
    files = {conversation.write_conversation(now, tmp_path) for _ in range(20)}
    assert len(files) == 20  # in the same second too


def test_an_answer_that_ran_into_the_limit_is_marked(parrots: dict[str, Any]) -> None:
    from medsft.serving import chat_app, conversation

    now = conversation.new_conversation([*parrots])
    [*_] = chat_app.turn(parrots, "It hurts.", now, 0.0, 8, 1)
    last = [*chat_app.turn(parrots, "Still.", now, 0.0, 3, 1)][-1]
    texts = [turn["content"] for turn in last["boxes"][0]]
    assert texts == ["one two three", "one two three\n[cut at 3 tokens: the answer did not end; see Settings]"]
    assert last["asked"]["value"] == "1. It hurts.\n2. Still."
    assert "cut at" not in now["turns"]["lora"][-1]["content"]  # what the model reads next is its own answer


def test_a_vote_after_the_names_is_kept_but_not_counted(parrots: dict[str, Any], tmp_path: Path) -> None:
    from medsft.evaluation.review import votes
    from medsft.files import read_jsonl
    from medsft.serving import chat_app, conversation

    now, file = conversation.new_conversation([*parrots]), tmp_path / "votes.jsonl"
    for number, message in enumerate(("It hurts.", "Still."), 1):
        [*_] = chat_app.turn(parrots, message, now, 0.0, 8, 1)
        said = conversation.take_vote("A is better", now, False, file, ["B"])
        assert ("kept but not counted" in said) == (number == 2)
    rows = read_jsonl(file)
    assert [row["blinded"] for row in rows] == [True, False]
    (counted,) = votes.table(file)
    assert counted["wins"] + counted["losses"] == 1
    marked = now["arms"][1]
    assert votes.unsafe_marks(file) == {arm: (int(arm == marked), 1) for arm in ("lora", "wide")}
    fresh = conversation.new_conversation([*parrots])
    assert "unblinded" not in fresh


@pytest.mark.parametrize("message", ["", "pain " * 2_000, "pain " * 60])
def test_what_cannot_be_answered_is_said_and_changes_nothing(parrots: dict[str, Any], message: str) -> None:
    import gradio as gr

    from medsft.serving import chat_app, conversation

    now = conversation.new_conversation([*parrots])
    with pytest.raises(
        gr.Error, match="Write what|has 9,999 characters; write at most 8,000 at once|longer than the models can read"
    ):
        next(chat_app.turn(parrots, message, now, 0.0, 8, 1))
    assert all(turns == [] for turns in now["turns"].values())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--host", "0.0.0.0"), "would let others in"),
        (("--host", "192.168.1.5", "--password_file", "nowhere"), "no such file, or its first line is empty"),
        (("--arms", "lora"), "name two to eight arms"),
    ],
)
def test_what_is_not_safe_or_not_a_comparison_is_refused(study: Path, words: tuple[str, ...], message: str) -> None:
    done = run_script("chat.py", "--study_dir", study, *words)
    assert done.returncode == 2
    assert message in done.stderr and "Traceback" not in done.stderr


def test_while_the_arms_answer_no_message_and_no_vote_is_taken(parrots: dict[str, Any], tmp_path: Path) -> None:
    import gradio as gr

    from medsft.serving import chat_app, conversation

    now, file = conversation.new_conversation([*parrots]), tmp_path / "votes.jsonl"
    [*_] = chat_app.turn(parrots, "It hurts.", now, 0.0, 8, 1)
    answering = chat_app.turn(parrots, "Still.", now, 0.0, 8, 1)
    next(answering)
    with pytest.raises(gr.Error, match="still answer"):
        next(chat_app.turn(parrots, "And my knee?", now, 0.0, 8, 1))
    with pytest.raises(gr.Error, match="Wait until all answers are complete"):
        conversation.take_vote("A is better", now, True, file)
    [*_] = answering
    said = [turn["content"] for turn in now["turns"]["lora"]]
    assert said == ["It hurts.", "one two three", "Still.", "one two three"] and not file.exists()
    assert "A = " in conversation.take_vote("A is better", now, True, file)


def test_votes_on_an_arm_as_it_was_before_do_not_count(parrots: dict[str, Any], tmp_path: Path) -> None:
    from medsft.serving import chat_app, conversation

    file, first, second = tmp_path / "votes.jsonl", {"lora": "1" * 16, "wide": ""}, {"lora": "2" * 16, "wide": ""}
    for weights in (first, first, second):
        now = conversation.new_conversation([*parrots])
        [*_] = chat_app.turn(parrots, "It hurts.", now, 0.0, 8, 1)
        conversation.take_vote("A is better", now, False, file, ["A"], weights)
    shown = {name: conversation.shown_votes(file, weights) for name, weights in (("old", first), ("new", second))}
    assert "1 votes on arms as they were before" in shown["old"] and "of 2" in shown["old"]
    assert "2 votes on arms as they were before" in shown["new"] and "of 1" in shown["new"]
    assert "before" not in conversation.shown_votes(file)


def test_arms_here_and_on_servers_show_their_answers_together(parrots: dict[str, Any]) -> None:
    """A served answer comes whole: beside one that grows, the letter would say which arm is the served one."""
    from medsft.inference.served_arms import ServedArm
    from medsft.serving import chat_app, conversation

    loaded = parrots["lora"]
    mixed = parrots | {"lora_q8": ServedArm(None, loaded.tokenizer, 60, loaded.system)}  # type: ignore[arg-type]
    now = conversation.new_conversation([*mixed])
    shown = [*chat_app.turn(mixed, "It hurts.", now, 0.0, 8, 1)]
    assert len(shown) == 2 and {box[0]["content"] for box in shown[0]["boxes"]} == {" …"}
    assert {box[0]["content"] for box in shown[1]["boxes"]} == {"one two three"}


@pytest.mark.slow
def test_a_new_conversation_ends_the_answers_of_the_old_one(browser: Any, address: str) -> None:  # noqa: F811
    page = browser.new_page()
    page.goto(address)
    page.click("text=Settings")
    page.fill("#limit input[type=number]", "1024")
    page.fill("#message textarea", "Tell me all about my knee.")
    page.click("#send")
    page.wait_for_function("() => [...document.querySelectorAll('.bot.message')].some(b => b.innerText.length > 20)")
    page.click("#new")
    page.wait_for_selector("#asked", state="hidden")
    page.fill("#limit input[type=number]", "16")
    page.fill("#message textarea", "And my back?")
    page.click("#send")
    page.wait_for_function("() => document.querySelector('#asked textarea')?.value == 'And my back?'")
    page.wait_for_function(FINISHED, arg=2)  # one answer of each arm: nothing of the conversation before
    assert page.input_value("#asked textarea") == "And my back?"
    page.close()
