"""The items of the forgetting gate: enough of each kind, keys that cannot be guessed, and one line for a wrong row."""

import json
from collections import Counter
from pathlib import Path

import pytest

from medsft.errors import UserError
from medsft.evaluation.forgetting import answering, items

BUNDLED = items.chosen(None, None)


def test_every_kind_has_enough_items_and_no_prompt_stands_twice() -> None:
    counts = Counter(item["kind"] for item in BUNDLED)
    assert set(counts) == set(items.KINDS)
    assert all(counts[kind] >= 40 for kind in ("instructions", "general", "medical", "reasoning"))
    assert counts["refusal"] >= 20 and counts["over_refusal"] >= 20 and counts["refusal"] + counts["over_refusal"] >= 40
    assert len({item["prompt"] for item in BUNDLED}) == len({item["id"] for item in BUNDLED}) == len(BUNDLED)
    card = (items.FOLDER / "README.md").read_text(encoding="utf-8")
    assert all(f"| `{kind}.jsonl` | {number} |" in card for kind, number in counts.items())


@pytest.mark.parametrize("kind", items.BY_LIKELIHOOD)
def test_keys_are_balanced_over_the_letters_and_length_does_not_give_them_away(kind: str) -> None:
    rows = items.by_kind(BUNDLED)[kind]
    assert Counter(row["answer"] for row in rows) == dict.fromkeys("ABCD", len(rows) // 4)
    keys = [len(row["choices"]["ABCD".index(row["answer"])]) for row in rows]
    for extreme in (max, min):  # who takes the longest, or the shortest, and draws among equals
        lengths = [[len(choice) for choice in row["choices"]] for row in rows]
        pairs = zip(keys, lengths, strict=True)
        hits = sum((key == extreme(each)) / each.count(extreme(each)) for key, each in pairs)
        assert 0.1 * len(rows) <= hits <= 0.4 * len(rows)


def test_no_instruction_is_met_by_silence_an_echo_or_a_doctors_phrase() -> None:
    asked = items.by_kind(BUNDLED)["instructions"]
    for phrase in ("", "I am here to help you. I am here to help you. I am here to help you.", "Hello, how are you?"):
        assert sum(answering.is_right(item, phrase) for item in asked) <= 4
    assert sum(answering.is_right(item, item["prompt"]) for item in asked) <= 8
    for item in items.by_kind(BUNDLED)["over_refusal"]:
        assert not answering.is_right(item, item["prompt"]) and not answering.is_right(item, "I am here to help you.")


def test_the_given_answers_of_the_reasoning_items_are_read_as_right() -> None:
    for item in items.by_kind(BUNDLED)["reasoning"]:
        assert answering.is_right(item, f"The answer is {item['answer']}.") and answering.is_right(item, item["answer"])
        assert not answering.is_right(item, "I do not know.")


def test_the_first_items_are_the_same_in_a_larger_draw() -> None:
    few, many = (items.by_kind(items.chosen(None, number)) for number in (5, 20))
    assert all(len(few[kind]) == 5 and many[kind][:5] == few[kind] for kind in items.KINDS)
    ids = [item["id"] for item in items.chosen(None, 20) if item["kind"] == "general"]
    assert ids != sorted(ids)
    with pytest.raises(UserError, match="items_per_kind 0"):
        items.chosen(None, 0)


def test_own_items_are_kinds_of_their_own(tmp_path: Path) -> None:
    own = tmp_path / "own.jsonl"
    own.write_text(json.dumps(BUNDLED[0] | {"id": "mine"}) + "\n\n")
    (mine,) = [item for item in items.chosen(str(own), None) if item["kind"].startswith(items.OWN)]
    assert mine["id"] == "own_mine" and items.scored_as(mine) == "instructions"


def test_chance_is_one_in_the_number_of_what_can_be_chosen() -> None:
    by_id = {item["id"]: items.chance(item) for item in BUNDLED}
    assert by_id["general-01"] == 0.25 and by_id["reasoning-21"] == pytest.approx(1 / 3) and by_id["reasoning-01"] == 0
    assert by_id["refusal-01"] == by_id["instructions-01"] == 0


GOOD = {"id": "a", "kind": "refusal", "prompt": "x"}
CHOICE = {"id": "a", "kind": "general", "prompt": "x", "choices": ["1", "2"], "answer": "A"}
REASONING = {"id": "a", "kind": "reasoning", "prompt": "x", "answer": "7"}
INSTRUCTION = {"id": "a", "kind": "instructions", "prompt": "x", "checks": {"words": 1}}


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        (["{broken"], "row 1 is not JSON"),
        ([b"\xff"], "row 1 is not JSON"),
        (["[]"], "row 1 is not an object"),
        ([GOOD, {**GOOD, "prompt": ""}], "row 2: field 'prompt' is missing"),
        ([GOOD, GOOD], "row 2: field 'id' repeats 'a'"),
        ([{**GOOD, "kind": "poetry"}], "field 'kind' is 'poetry'; use instructions"),
        ([{**GOOD, "kind": "over_refusal"}], "field 'mentions'"),
        ([{**CHOICE, "choices": ["1", "1"]}], "field 'choices'"),
        ([{**CHOICE, "answer": "C"}], "field 'answer' is no letter from A to B"),
        ([{**CHOICE, "answer": 0}], "field 'answer' is no letter"),
        ([{**REASONING, "answer": 7}], "field 'answer' is missing or no text"),
        ([{**REASONING, "answer": "Ann"}], "field 'options' is missing"),
        ([{**REASONING, "options": ["1", "2"]}], "field 'options' is no list"),
        ([{**INSTRUCTION, "checks": {}}], "field 'checks' is missing or empty"),
        ([{**INSTRUCTION, "checks": {"wrods": 1}}], "'wrods', which is no check; use bullets"),
        ([{**INSTRUCTION, "checks": {"words": "one"}}], "a value for 'words' that it cannot be"),
        ([{**INSTRUCTION, "checks": {"case": "title"}}], "a value for 'case'"),
        ([{**INSTRUCTION, "checks": {"language": "xx"}}], "a value for 'language'"),
        ([{**INSTRUCTION, "checks": {"times": {"a": "b"}}}], "a value for 'times'"),
        ([{**INSTRUCTION, "checks": {"ends": " "}}], "a value for 'ends'"),
        ([], "no rows"),
        (None, "no such file"),
    ],
)
def test_a_bad_row_names_file_row_field_and_remedy(rows: list[object] | None, says: str, tmp_path: Path) -> None:
    path = tmp_path / "own.jsonl"
    if rows is not None:
        written = [json.dumps(row) if isinstance(row, dict) else row for row in rows]
        path.write_bytes(b"\n".join(row if isinstance(row, bytes) else row.encode() for row in written))
    with pytest.raises(UserError) as error:
        items.read(path)
    assert str(error.value).startswith(str(path)) and says in str(error.value) and "\n" not in str(error.value)
