"""The example of each rule in the data report: what changed is shown, who it was about is not."""

from datasets import Dataset

from corpus import turns
from medsft.data.pipeline import features
from medsft.data.rules import rule_examples
from medsft.data.transforms import CLEAN, DEIDENTIFY, clean_batch, deidentify_batch

DIALOGUES = [
    turns("I cough.", "Rest."),
    turns("Write to a.b@example.org.", "<b>Rest</b> it. Hope this helps. Regards, Dr. Elvira Quill"),
    turns("Call 202-555-0147.", "<i>Wait</i>."),
]


def tables() -> tuple[Dataset, Dataset, Dataset]:
    """The rows as read, cleaned and de-identified."""
    read = {"turns": DIALOGUES}
    cleaned = clean_batch({"turns": DIALOGUES}, [])
    redacted = deidentify_batch({"turns": cleaned["turns"], "language": cleaned["language"]}, [])  # type: ignore[typeddict-item]
    made = Dataset.from_dict(cleaned, features(CLEAN.columns))
    return Dataset.from_dict(read), made, Dataset.from_dict(redacted, features(DEIDENTIFY.columns))


def test_each_rule_shows_the_first_change_it_made() -> None:
    read, cleaned, _ = tables()
    examples = rule_examples.of_cleaning(read, cleaned, skip=[])
    assert set(examples) == {"html", "closing_formula"}
    assert examples["html"]["before"].startswith("<b>Rest</b> it.")
    assert examples["html"]["after"].startswith("Rest it.")
    assert "Quill" not in str(examples) and "[DOCTOR]" in examples["html"]["before"]


def test_what_was_found_is_masked_and_so_is_what_stands_beside_it() -> None:
    _, cleaned, redacted = tables()
    examples = rule_examples.of_deidentification(cleaned, redacted, skip=[])
    assert set(examples) == {"email", "phone", "doctor_name", "sign_off"}
    assert examples["email"] == {"before": "Write to x.x@xxxxxxx.xxx.", "after": "Write to [EMAIL]."}
    assert examples["phone"]["before"] == "Call 999-999-9999."
    assert examples["sign_off"]["before"].endswith("[DOCTOR]")


def test_a_long_text_is_clipped_around_the_change() -> None:
    before, after = "a" * 500 + "XY" + "b" * 500, "a" * 500 + "Z" + "b" * 500
    assert rule_examples.changed_span(before, after) == (500, 502, 501)
    example = rule_examples.shown(before, after)
    assert example == {"before": "a" * 60 + "XY" + "b" * 60, "after": "a" * 60 + "Z" + "b" * 60}


def test_the_first_row_of_a_value_is_found_across_the_chunks_of_a_column() -> None:
    import pyarrow

    column = pyarrow.chunked_array([[["a"], []], [["b", "c"], ["c"]]])
    found = {value: rule_examples.first_with(column, value) for value in "abcd"}
    assert found == {"a": 0, "b": 2, "c": 2, "d": None}


def test_texts_that_did_not_change_have_no_example() -> None:
    assert rule_examples.of_texts("control_tokens", ["x"], ["x"]) == {}
    assert set(rule_examples.of_texts("control_tokens", ["x", "</s>"], ["x", "< /s>"])) == {"control_tokens"}
