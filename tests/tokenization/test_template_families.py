"""Every chat template that TRL ships, trained as it asks: a new one of theirs is tested for free."""

from pathlib import Path
from typing import Any

import pytest

from conftest import RECIPES
from loss_runs import supervised
from medsft.errors import UserError
from medsft.tokenization import answer_marks, chat_template
from medsft.tokenization.chat_template import NO_THINKING, PLAIN, PROBE, prompt_ids, render, stop_ids, training_template
from medsft.training.saving import generation_config
from template_families import FAMILIES, PARTS_ONLY, PHI_4_MINI, SHIPPED, tokenizer_of_all_families

# The template of each folder of recipes: what a prompt ends with, and what ends an answer
RECIPES_TEMPLATES = {
    "llama31_8b": ("llama3_1", "<|start_header_id|>assistant<|end_header_id|>\n\n", "<|eot_id|>"),
    "qwen25_7b": ("qwen2_5", "<|im_start|>assistant\n", "<|im_end|>"),
    "qwen3_8b": ("qwen3", "<|im_start|>assistant\n<think>\n\n</think>\n\n", "<|im_end|>"),
    "gemma3_4b": ("gemma3", "<start_of_turn>model\n", "<end_of_turn>"),
    "medgemma_4b": ("gemma3", "<start_of_turn>model\n", "<end_of_turn>"),
    "phi4_mini": ("", "<|end|><|assistant|>", "<|end|>"),
}
TESTED_ELSEWHERE = {"demo", "paper", "beyond", "mistral_7b", "smollm2_135m", "smollm2_360m", "smollm2_1.7b"}
EMPTY_THOUGHT = "<think>\n\n</think>\n\n"
DIALOGUES = {
    "one exchange": PROBE[:2],
    "two exchanges": PROBE,
    "no ASCII": [
        {"role": "user", "content": "我头痛两天了 🤕\n\nAuch Übelkeit: 38,5 °C"},
        {"role": "assistant", "content": "42 mg/dl? Nein.\n\n- ärztlich abklären\n- 多喝水"},
    ],
}


@pytest.fixture(scope="module")
def every_token() -> Any:
    return tokenizer_of_all_families()


def of_family(tokenizer: Any, name: str) -> str:
    """The training template of a family; the test is skipped for those that are refused, which have their own test."""
    tokenizer.chat_template = (SHIPPED / f"{name}.jinja").read_text()
    if name in PARTS_ONLY:
        pytest.skip("refused, see test_what_is_refused_names_a_remedy_that_works")
    return training_template(tokenizer)


@pytest.mark.parametrize("family", FAMILIES)
def test_each_answer_is_learned_whole_with_its_end_and_nothing_else(every_token: Any, family: str) -> None:
    template = of_family(every_token, family)
    for messages in DIALOGUES.values():
        rendered = render(every_token, messages, template)
        answers = [message["content"] for message in messages if message["role"] == "assistant"]
        runs = supervised(every_token, rendered)
        assert [run[: run.rindex(every_token.decode(end))].strip() for run, end in ends(every_token, runs)] == answers
        rest = [token for token, kept in zip(*rendered, strict=True) if not kept]
        assert not any(answer in every_token.decode(rest) for answer in answers)


def ends(tokenizer: Any, runs: list[str]) -> list[tuple[str, int]]:
    """Each run of learned text with its last token but white space, which is a stop."""
    last = [tokenizer(run.rstrip(), add_special_tokens=False)["input_ids"][-1] for run in runs]
    assert set(last) <= stop_ids(tokenizer)
    return list(zip(runs, last, strict=True))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_prompt_is_how_the_trained_dialogue_begins(every_token: Any, family: str) -> None:
    template = of_family(every_token, family)
    for messages in DIALOGUES.values():
        rendered, asked = render(every_token, messages, template), prompt_ids(every_token, messages[:-1])
        assert rendered.input_ids[: len(asked)] == asked
        assert rendered.loss_mask[len(asked)] == 1


@pytest.mark.parametrize("family", FAMILIES)
def test_the_text_is_what_the_models_own_template_prints(every_token: Any, family: str) -> None:
    template = of_family(every_token, family)
    own = answer_marks.without_clock(every_token.chat_template)
    for messages in DIALOGUES.values():
        texts = [
            every_token.apply_chat_template(messages, chat_template=t, tokenize=False, **NO_THINKING)
            for t in (own, template)
        ]
        if not texts[0].rstrip().endswith(texts[1].rstrip()[-8:]):  # GLM's last turn is not closed by its own
            texts[1] = texts[1].removesuffix("<|user|>")
        if EMPTY_THOUGHT not in texts[0]:  # DeepSeek-R1's trained turns have none, but its prompt opens one
            texts[1] = texts[1].replace(EMPTY_THOUGHT, "")
        assert texts[0] == texts[1]


@pytest.mark.parametrize("family", [name for name in FAMILIES if (SHIPPED / f"{name}_training.jinja").is_file()])
def test_what_is_learned_agrees_with_trls_own_training_templates(every_token: Any, family: str) -> None:
    """Theirs may also learn what stands in our prompt, such as a channel or an empty thought, and a last line break."""
    template, theirs = of_family(every_token, family), (SHIPPED / f"{family}_training.jinja").read_text()
    ours, trls = (supervised(every_token, render(every_token, PROBE, t)) for t in (template, theirs))
    assert len(ours) == len(trls)
    for mine, other in zip(ours, trls, strict=True):
        assert mine.strip() in other


@pytest.mark.parametrize("family", ["gemma", "qwen2_5", "llama3", "phi3_5", "cohere"])
def test_a_marked_file_is_taken_though_its_end_of_turn_is_not_the_end_of_sequence(
    every_token: Any, family: str
) -> None:
    file = SHIPPED / f"{family}_training.jinja"
    assert training_template(every_token, str(file)) == file.read_text()


def test_a_marked_file_that_trains_another_prompt_than_it_asks_is_refused(every_token: Any) -> None:
    with pytest.raises(UserError, match="does not begin with the tokens that a prompt ends with"):
        training_template(every_token, str(SHIPPED / "deepseek_r1_distill_training.jinja"))


@pytest.mark.parametrize("family", sorted(PARTS_ONLY))
def test_what_is_refused_names_a_remedy_that_works(every_token: Any, family: str) -> None:
    every_token.chat_template = (SHIPPED / f"{family}.jinja").read_text()
    with pytest.raises(UserError) as refused:
        training_template(every_token)
    assert "\n" not in str(refused.value)
    path = str(refused.value).rpartition(" ")[2]
    assert Path(path) == PLAIN
    template = training_template(every_token, path)
    assert supervised(every_token, render(every_token, PROBE[:2], template)) == [" Since when?<|im_end|>"]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_system_turn_is_kept_or_merged_into_the_patients_first(every_token: Any, family: str) -> None:
    template = of_family(every_token, family)
    system = {"role": "system", "content": "Answer in two sentences."}
    text = every_token.decode(prompt_ids(every_token, [system, *PROBE[:1]]))
    assert text.count(system["content"]) == 1
    assert text.index(system["content"]) < text.index(PROBE[0]["content"])
    assert system["content"] not in "".join(supervised(every_token, render(every_token, [system, *PROBE], template)))


@pytest.mark.parametrize(
    "folder", sorted({path.parent.name for path in RECIPES.glob("configs/*/*.yaml")} - TESTED_ELSEWHERE)
)
def test_the_model_of_every_folder_of_recipes_is_asked_and_stopped_as_published(every_token: Any, folder: str) -> None:
    family, opening, end = RECIPES_TEMPLATES[folder]
    every_token.chat_template = (SHIPPED / f"{family}.jinja").read_text() if family else PHI_4_MINI
    rendered = render(every_token, PROBE, training_template(every_token))
    assert every_token.decode(prompt_ids(every_token, PROBE[:3])).endswith(opening)
    assert supervised(every_token, rendered) == [PROBE[1]["content"] + end, PROBE[3]["content"] + end]
    assert every_token.convert_tokens_to_ids(end) in stop_ids(every_token)


def test_prompts_are_the_same_on_every_day(every_token: Any) -> None:
    of_family(every_token, "llama3_2")
    assert "Today Date: 26 Jul 2024" in every_token.decode(prompt_ids(every_token, PROBE[:1]))


def test_a_model_that_opens_a_thought_is_asked_and_trained_with_a_closed_one(every_token: Any) -> None:
    template = of_family(every_token, "deepseek_r1_distill")
    asked = every_token.decode(prompt_ids(every_token, PROBE[:1]))
    assert asked.endswith("<｜Assistant｜>" + EMPTY_THOUGHT)
    saved = chat_template.saved_template(every_token.chat_template, every_token, template)
    served = every_token.apply_chat_template(PROBE[:1], chat_template=saved, tokenize=False, add_generation_prompt=True)
    assert served == asked  # a server that knows nothing of this asks alike


def test_gpt_oss_is_asked_in_its_final_channel(every_token: Any) -> None:
    of_family(every_token, "gptoss")
    asked = every_token.decode(prompt_ids(every_token, PROBE[:1]))
    assert asked.endswith("<|start|>assistant<|channel|>final<|message|>")


def test_every_published_stop_is_a_stop_and_exported(every_token: Any) -> None:
    of_family(every_token, "phi3_5")
    end, published = every_token.convert_tokens_to_ids("<|end|>"), every_token.convert_tokens_to_ids("<|user|>")
    every_token.published_stops = [published]
    try:
        assert {end, published, every_token.eos_token_id} <= stop_ids(every_token)
        assert generation_config(every_token).eos_token_id == sorted(stop_ids(every_token))
    finally:
        every_token.published_stops = []


def test_a_template_adapted_once_is_not_changed_again(every_token: Any) -> None:
    """What is saved with an arm is read again by the next stage, which must ask alike."""
    for family in ("qwen3_6", "gptoss", "glm4moe", "gemma", "deepseek_r1_distill"):
        template = of_family(every_token, family)
        asked = prompt_ids(every_token, PROBE[:1])
        stops = stop_ids(every_token)
        every_token.chat_template = chat_template.saved_template(every_token.chat_template, every_token, template)
        assert prompt_ids(every_token, PROBE[:1]) == asked
        assert stop_ids(every_token) == stops
        assert render(every_token, PROBE, training_template(every_token)) == render(every_token, PROBE, template)
