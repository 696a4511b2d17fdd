"""The token budget never touches an answer."""

from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from medsft.models.loading import load_tokenizer
from medsft.tokenization.chat_template import render, stop_ids, training_template
from medsft.tokenization.truncation import fit, word_starts

WORDS = st.lists(
    st.sampled_from(["pain", "since", "Tuesday,", "38.5", "über", "🙂", "mg", "\n"]), min_size=1, max_size=30
)


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    return load_tokenizer("embedded/SmolLM2-135M-Instruct")


@pytest.fixture(scope="session")
def template(tokenizer: Any) -> str:
    return training_template(tokenizer)


def messages(*texts: str) -> list[dict[str, str]]:
    return [{"role": "user" if i % 2 == 0 else "assistant", "content": text} for i, text in enumerate(texts)]


def test_what_fits_is_left_as_it_is(tokenizer: Any, template: str) -> None:
    dialogue = messages("I cough.", "Since when?", "May.", "Have an X-ray.")
    fitted = fit(tokenizer, template, dialogue, 512)
    assert fitted is not None
    assert (fitted.messages, fitted.shortened) == (dialogue, False)
    assert fitted.tokens == len(render(tokenizer, dialogue, template).input_ids)


def test_the_oldest_exchanges_go_first(tokenizer: Any, template: str) -> None:
    dialogue = messages("a " * 100, "b " * 100, "c " * 10, "d " * 10, "May.", "Have an X-ray.")
    fitted = fit(tokenizer, template, dialogue, 120)
    assert fitted is not None
    assert fitted.messages == dialogue[2:]
    assert fitted.shortened


def test_the_patients_message_keeps_its_end_from_a_whole_word_on(tokenizer: Any, template: str) -> None:
    question = " ".join(f"word{number}" for number in range(400))
    fitted = fit(tokenizer, template, messages(question, "Rest."), 200)
    assert fitted is not None
    kept = fitted.messages[0]["content"]
    assert question.endswith(f" {kept}")
    assert kept.startswith("word")
    longer = question[: -len(kept)].split()[-1]
    assert len(render(tokenizer, messages(f"{longer} {kept}", "Rest."), template).input_ids) > 200


def test_an_answer_over_the_budget_does_not_fit(tokenizer: Any, template: str) -> None:
    assert fit(tokenizer, template, messages("Why?", "rest " * 300), 200) is None


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(WORDS, WORDS), min_size=1, max_size=4), st.integers(30, 160))
@example([(["\n"], ["pain", "pain"])], 36)
def test_within_the_budget_with_every_answer_whole(
    tokenizer: Any, template: str, exchanges: list[tuple[list[str], list[str]]], budget: int
) -> None:
    texts = [" ".join(["x", *words]) for exchange in exchanges for words in exchange]
    dialogue = messages(*texts)
    fitted = fit(tokenizer, template, dialogue, budget)
    if fitted is None:
        shortest = messages(dialogue[-2]["content"].split()[-1], dialogue[-1]["content"])
        assert len(render(tokenizer, shortest, template).input_ids) > budget
        return
    rendered = render(tokenizer, fitted.messages, template)
    assert len(rendered.input_ids) == fitted.tokens <= budget
    assert sum(rendered.loss_mask) == fitted.answer_tokens
    kept = fitted.messages[1::2]
    assert kept == dialogue[1::2][-len(kept) :]
    asked, first = dialogue[-len(fitted.messages)]["content"], fitted.messages[0]["content"]
    assert first == asked or asked.rstrip().endswith(first)
    learned = [token for token, mask in zip(rendered.input_ids, rendered.loss_mask, strict=True) if mask]
    stops = stop_ids(tokenizer)
    assert sum(token in stops for token in learned) == len(kept)


@pytest.mark.parametrize(
    ("question", "ends"),
    [
        ("我咳嗽三天了，体温37.5度，没有其他病史。" * 60, "体温37.5度，没有其他病史。"),
        ("ฉันปวดหัวมาสามวันแล้วและมีไข้" * 60, "ฉันปวดหัวมาสามวันแล้วและมีไข้"),
    ],
)
def test_a_message_without_blanks_is_cut_at_its_start_too(
    tokenizer: Any, template: str, question: str, ends: str
) -> None:
    fitted = fit(tokenizer, template, messages(question, "Rest."), 300)
    assert fitted is not None and fitted.shortened and fitted.tokens > 250
    kept = fitted.messages[0]["content"]
    assert question.endswith(kept) and kept.endswith(ends)


def test_a_cut_falls_on_no_number_and_no_vowel_sign() -> None:
    text = "体温37.5度，正常 (see above) กี่วัน"
    assert [text[start:] for start in word_starts(text)][2:4] == [text[2:], text[6:]]
    assert all(text[start] not in "，.75ี่ั" for start in word_starts(text))
    assert text.index("(see") in word_starts(text)
