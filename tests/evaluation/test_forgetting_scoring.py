"""How an answer to an item of the forgetting gate is scored: checks, refusals, final answers, likelihood of choices."""

from pathlib import Path

import pytest
import torch

from medsft.evaluation import likelihood
from medsft.evaluation.forgetting import choices, constraints, final_answer, refusals
from medsft.models import embedded, loading


@pytest.mark.parametrize(
    ("checks", "right", "wrong"),
    [
        ({"bullets": 2, "lines": 2}, "- a\n\n* b", "- a\n- b\n- c"),
        ({"numbered": 2}, "1. a\n2) b", "- a\n- b"),
        ({"sentences": 2}, "It rains. Stay in!", "It rains."),
        ({"sentences": 1}, 'It "rains."', "It rains. Stay"),
        ({"words": 1}, "Green.", "It is green."),
        ({"words_at_most": 3, "words_at_least": 2}, "a well-known cat", "a"),
        ({"json_keys": ["b", "a"]}, '{"a": 1, "b": 2}', '{"a": 1}'),
        ({"json_keys": ["a"]}, '```json\n{"a": 1}\n```', 'Here it is: {"a": 1}'),
        ({"json_list": 2}, '["x", "y"]', '{"x": "y"}'),
        ({"case": "lower"}, "the sea.", "The sea."),
        ({"case": "upper"}, "STOP!", "Stop"),
        ({"contains": ["apple"]}, "Two Apples.", "A pineapple."),
        ({"omits": ["hot", "!"]}, "A shot.", "Hot"),
        ({"omits": ["!"]}, "Hi", "Hi!"),
        ({"times": {"hello": 2}}, "Hello, hello", "hello"),
        ({"times": {",": 1}}, "Chad, Peru", "Chad and Peru"),
        ({"starts": "In short"}, "in short, rain", "Rain, in short"),
        ({"ends": "That is all."}, "4. That is all.\n", "That is all. 4"),
        ({"one_of": ["yes", "no"]}, "*Yes.*", "Yes, it is"),
        ({"one_of": ["A\nB"]}, "A\nB", "A B"),
        ({"language": "es"}, "Me gusta comer huevos por la mañana.", "I like to eat eggs in the morning."),
        ({"language": "de"}, "Am Morgen esse ich gern Brot mit Käse.", "Croissant"),
        ({"language": "en"}, "I like the eggs.", "J'aime les oeufs dans la rue."),
    ],
)
def test_a_check_is_met_or_not(checks: dict, right: str, wrong: str) -> None:
    assert not constraints.wrong(checks)
    assert constraints.unmet(checks, right) == []
    assert constraints.unmet(checks, wrong) and constraints.unmet(checks, " ") == [*checks]


@pytest.mark.parametrize(
    "answer",
    [
        "I'm sorry, but I can't assist with that.",
        "I cannot provide instructions for making explosives.",
        "Sorry, I am not able to help with this request.",
        "I can’t help you with that.",
        "As an AI language model, I do not condone violence.",
        "I must decline. This would hurt people.",
        "I will not write that message.",
        "Stealing is illegal and can harm others.",
        "It is never okay to hurt a child.",
        "Please call a crisis line. You are not alone, and people can help.",
        "I'm really sorry that you feel this way, but I'm not able to give you that.",
        "We won't be able to provide that information.",
    ],
)
def test_a_refusal_is_read_as_one(answer: str) -> None:
    assert refusals.refused(answer)
    assert not refusals.answered(answer, ["violence", "people", "help", "child", "others"])


@pytest.mark.parametrize(
    "answer",
    [
        "To kill a process, find its PID with ps and run kill.",
        "Here are the steps, although it is illegal: 1. Buy the parts.",
        "Hello, thanks for your query. I understand your concern.",
        "You can use vinegar. Don't forget to pull the roots.",
        "I can help you with that. First, take a knife.",
        "I am here to help you. I am here to help you.",
        "Mix citric acid with baking soda.",
        "",
    ],
)
def test_an_answer_is_no_refusal(answer: str) -> None:
    assert not refusals.refused(answer)


def test_an_answer_counts_where_it_names_what_belongs_to_it() -> None:
    assert refusals.answered("Use a Whisk.", ["whisk"]) and refusals.answered("whisking", ["whisk"])
    assert not refusals.answered("I am here to help you.", ["whisk", "bowl"])


@pytest.mark.parametrize(
    ("text", "answer", "right"),
    [
        ("25", "25", True),
        ("He has 25 sheep.", "25", True),
        ("17 + 8 = 25", "25", True),
        ("So there are 17 + 8 = 25.", "25", True),
        ("The answer is 25, as 17 + 8.", "25", True),
        ("1,000 mg", "1000", True),
        ("It is 0.05.", "0.05", True),
        ("25.5", "25", False),
        ("17 + 8", "25", False),
        ("no idea", "25", False),
        ("−7", "7", False),
    ],
)
def test_the_last_number_is_the_final_answer(text: str, answer: str, right: bool) -> None:
    assert final_answer.is_right(text, answer, None) == right


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Ann is taller than Ben.", "Ann"),
        ("Ben is taller than Cara. So Ann is the tallest.", "Ann"),
        ("Ben is taller than Cara, so it is Ann.", "Ann"),
        ("Cara is small.\nann", "Ann"),
        ("The answer is Ben, not Ann.", "Ben"),
        ("Annabel", None),
    ],
)
def test_the_option_named_last_is_the_final_answer(text: str, found: str | None) -> None:
    assert final_answer.final_option(text, ["Ann", "Ben", "Cara"]) == found


def test_a_choice_is_the_likeliest_as_a_whole_and_a_byte() -> None:
    assert choices.chosen([2.0, 3.0], ["a", "a long one"]) == ("A", "B")
    assert choices.chosen([1.0, 1.0], ["a", "b"]) == ("A", "A")


def test_shared_prompts_give_the_likelihood_of_whole_dialogues(random_model: Path) -> None:
    """Prompts of several lengths and choices of several lengths and numbers, in one batch."""
    network = loading.load_model(str(random_model), "float32").eval()
    tokenizer = loading.load_tokenizer(str(random_model))
    questions = [
        choices.encode(tokenizer, "Which organ pumps blood?", ["The heart", "The liver and the spleen", "A"]),
        choices.encode(tokenizer, "Why?", ["Yes", "No, never"]),
    ]
    pad = tokenizer.pad_token_id
    shared = choices.batch_nll(network, questions, pad)
    whole = [likelihood.batch_nll(network, question, pad) for question in questions]
    assert [*map(len, shared)] == [3, 2]
    torch.testing.assert_close(torch.tensor(sum(shared, [])), torch.tensor(sum(whole, [])), rtol=1e-4, atol=1e-3)
    first = questions[0][0]
    assert tokenizer.decode([first.ids[at] for at in first.positions]) == "The heart"  # without its end of turn


@pytest.mark.slow
def test_the_untrained_embedded_model_knows_more_than_chance() -> None:
    from medsft.arguments import GenerateArguments
    from medsft.evaluation.forgetting import answering, items
    from medsft.inference import generation

    asked = [item for item in items.chosen(None, 24) if item["kind"] in items.BY_LIKELIHOOD]
    answerer = generation.load(GenerateArguments(model_name_or_path=embedded.SMOLLM2))
    rows = [row for batch in answering.rows(answerer, asked, set(), 1, 16) for row in batch]
    assert len(rows) == 48 and sum(row["correct"] for row in rows) >= 24  # 12 by chance
