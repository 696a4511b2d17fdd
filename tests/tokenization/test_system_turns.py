"""System turns: kept where a chat template prints them, put into the patient's first message, or dropped."""

from typing import Any

import pytest

from medsft.errors import UserError
from medsft.models import embedded, loading
from medsft.tokenization import chat_template
from medsft.tokenization.chat_template import PROBE, prompt_ids, render, training_template
from medsft.tokenization.system_turns import choose, parted, placed
from medsft.tokenization.truncation import fit
from template_families import FAMILIES, PARTS_ONLY, PHI_4_MINI, SHIPPED, tokenizer_of_all_families

TEXT = "Answer in two sentences."
SYSTEM: Any = {"role": "system", "content": TEXT}
# They raise an error for a system turn, or leave it out; all other families of TRL print it.
WITHOUT = {"gemma", "gemma2"}


@pytest.fixture(scope="module")
def every_token() -> Any:
    return tokenizer_of_all_families()


@pytest.mark.parametrize("family", [*sorted({*FAMILIES} - PARTS_ONLY), "phi_4_mini"])
def test_auto_keeps_what_the_template_prints_and_merges_elsewhere(every_token: Any, family: str) -> None:
    own = PHI_4_MINI if family == "phi_4_mini" else (SHIPPED / f"{family}.jinja").read_text()
    every_token.chat_template = own
    template = training_template(every_token)
    how = choose("auto", every_token, template, family)
    assert how == ("merge" if family in WITHOUT else "keep")
    messages = placed(TEXT, PROBE, how)
    # the model's own template prints the text once, before the patient's words: any server asks as it was trained
    text = every_token.apply_chat_template(messages, tokenize=False)
    assert text.count(TEXT) == 1 and text.index(TEXT) < text.index(PROBE[0]["content"])
    rendered = render(every_token, messages, template)
    asked = prompt_ids(every_token, messages[:-1])
    assert rendered.input_ids[: len(asked)] == asked
    learned = [token for token, kept in zip(*rendered, strict=True) if kept]
    assert TEXT not in every_token.decode(learned)


@pytest.mark.parametrize("family", sorted(WITHOUT & {*FAMILIES}))
def test_keep_is_refused_where_the_template_takes_none_and_its_remedy_works(every_token: Any, family: str) -> None:
    every_token.chat_template = (SHIPPED / f"{family}.jinja").read_text()
    template = training_template(every_token)
    with pytest.raises(UserError, match="--system_turns merge") as refused:
        choose("keep", every_token, template, family)
    assert "\n" not in str(refused.value)
    assert choose("merge", every_token, template, family) == "merge"
    named = training_template(every_token, str(refused.value).rpartition(" ")[2])
    assert choose("keep", every_token, named, family) == "keep"


def test_a_marked_template_that_leaves_system_turns_out_is_known(every_token: Any, tmp_path: Any) -> None:
    file = tmp_path / "mine.jinja"
    file.write_text(
        "{%- for message in messages %}{%- if message['role'] == 'user' %}<|im_start|>{{ message['content'] }}"
        "{%- elif message['role'] == 'assistant' %}{%- generation %}{{ message['content'] }}<|im_end|>"
        "{%- endgeneration %}{%- endif %}{%- endfor %}"
    )
    template = training_template(every_token, str(file))
    assert choose("auto", every_token, template, "mine") == "merge"
    assert not chat_template.prints_system(every_token, template)


@pytest.mark.parametrize("how", ["keep", "merge", "drop"])
def test_the_budget_shortens_the_patient_and_never_the_system_turn(how: str) -> None:
    tokenizer = loading.load_tokenizer(embedded.SMOLLM2)
    template = training_template(tokenizer)
    question = " ".join(f"word{number}" for number in range(300))
    turns: Any = [SYSTEM, *PROBE[:2], {"role": "user", "content": question}, {"role": "assistant", "content": "Rest."}]
    fitted = fit(tokenizer, template, turns, 120, how)
    assert fitted is not None and fitted.shortened and fitted.tokens <= 120
    assert fitted.tokens == len(render(tokenizer, fitted.messages, template).input_ids)
    system, spoken = parted(fitted.messages)
    assert system == (TEXT if how == "keep" else "")
    assert spoken[0]["content"].startswith(f"{TEXT}\n\nword") == (how == "merge")
    assert spoken[0]["content"].endswith("word299") and spoken[1:] == turns[-1:]


def test_a_system_turn_that_leaves_no_room_puts_the_row_over_the_budget() -> None:
    tokenizer = loading.load_tokenizer(embedded.SMOLLM2)
    long: Any = [{"role": "system", "content": "kind " * 200}, *PROBE]
    assert fit(tokenizer, training_template(tokenizer), long, 120, "keep") is None
    assert fit(tokenizer, training_template(tokenizer), long, 120, "drop") is not None


def test_turns_are_parted_and_placed() -> None:
    assert parted([SYSTEM, *PROBE]) == (TEXT, PROBE)
    assert parted(PROBE) == ("", PROBE) and parted([]) == ("", [])
    for how in ("keep", "merge", "drop"):
        assert placed("", PROBE, how) == PROBE
    assert placed(TEXT, PROBE, "keep") == [SYSTEM, *PROBE]
    assert placed(TEXT, PROBE, "drop") == PROBE
