"""From any chat template to one that is trained and asked alike, with marks around the answers for the loss.

The template is rendered with a placeholder instead of each answer, the text is split there, and the answers are put
back between {% generation %} marks. What is printed stays what the model's own template prints, token for token.
"""

import re
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from medsft.errors import UserError
from medsft.records import Turn

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

HOLE = "\ufdd0answer\ufdd1"  # Unicode's noncharacters: no dialogue and no template contains them
MARK = re.compile(r"\{#.*?#\}|\{%(-?)\s*(?:end)?generation\s*(-?)%\}", re.DOTALL)  # or a comment, which may name one
TODAY = datetime(2024, 7, 26)  # as Llama-3.1's template says without a clock; else each day had another prompt
SYSTEM: Turn = {"role": "system", "content": "Answer briefly."}
NO_THINKING = "{%- set enable_thinking = false -%}"
MERGED_SYSTEM = (
    "{%- if messages[0]['role'] == 'system' and messages | length > 1 -%}{%- set messages = [{'role': 'user', "
    "'content': messages[0]['content'] + '\\n\\n' + messages[1]['content']}] + messages[2:] -%}{%- endif -%}"
)
HEAD = (
    "{%- set holes = namespace(turns=[], answers=[]) -%}{%- for turn in messages -%}"
    "{%- if turn['role'] == 'assistant' -%}{%- set holes.answers = holes.answers + [turn['content']] -%}"
    f"{{%- set holes.turns = holes.turns + [{{'role': 'assistant', 'content': '{HOLE}'}}] -%}}"
    "{%- else -%}{%- set holes.turns = holes.turns + [turn] -%}{%- endif -%}{%- endfor -%}"
    "{%- set last_role = messages[-1]['role'] -%}{%- set messages = holes.turns -%}{%- set rendered %}"
)
MIDDLE = "{%+ endset -%}{#- the answers, put back -#}"


def trained_as_asked(tokenizer: "PreTrainedTokenizerBase", own: str, probe: Sequence[Turn]) -> str:
    """The template `own` without thoughts and clock, closing the last turn, with a prompt that begins trained turns.

    `probe`: two exchanges. Raises UserError with the reason where that cannot be had.
    """
    template = without_clock(unmarked(own))
    if "enable_thinking" in template and not template.startswith(NO_THINKING):
        template = NO_THINKING + template
    text = said(tokenizer, template, probe)
    if not keeps_system(tokenizer, template, probe):
        template = MERGED_SYSTEM + template
    pieces = _pieces(tokenizer, template, probe)
    if not _closing(tokenizer, pieces[-1]):
        # GLM's turn is ended by the token that opens the next one, which is absent after the last
        closing = _closing(tokenizer, pieces[1]).strip()
        if not closing:
            raise UserError("no control token closes the assistant's turn, so the model would never learn to stop")
        last = "not add_generation_prompt and messages[-1]['role'] == 'assistant'"
        template += f"{{%- if {last} %}}{{{{- {closing!r} }}}}{{%- endif %}}"
    asked, before = said(tokenizer, template, probe[:-1], asks=True), text[: text.rindex(probe[-1]["content"])]
    if before.startswith(asked):
        between = before[len(asked) :]
        # gpt-oss's channel or Qwen3's empty thought; a blank, or the label of a study, is part of the answer
        return _asks_also(template, between) if _has_control_token(tokenizer, between) else template
    opened = asked[len(before) :] if asked.startswith(before) else asked[-40:]
    if not re.fullmatch(r"\s*<think>\s*(?:</think>\s*)?", opened):
        raise UserError(f"a prompt ends with {opened[-40:]!r}, which no trained turn begins with")
    if "</think>" in opened:
        return template
    # DeepSeek-R1's distilled models: the opened thought is closed, so that the answer follows at once
    return _asks_also(template, "\n</think>\n\n" if opened.endswith("\n") else "\n\n</think>\n\n")


def marked(tokenizer: "PreTrainedTokenizerBase", template: str, probe: Sequence[Turn]) -> str:
    """`template`, as `trained_as_asked` returns it, with marks around each answer and the token that closes it."""
    pieces = _pieces(tokenizer, template, probe)
    asked = said(tokenizer, template, probe[:-1], asks=True)
    whole = said(tokenizer, template, [*probe[:-1], {"role": "assistant", "content": HOLE}])
    before = whole[: whole.rindex(HOLE)]
    gap, thought = before[len(asked) :], asked[len(before) :]  # one of them is empty
    closings = sorted({_closing(tokenizer, piece) for piece in pieces[1:]} - {""}, key=lambda c: (len(c), c))
    padded: list[Turn] = [{**turn, "content": f" {turn['content']}\n"} for turn in probe]
    trims = probe[-1]["content"] + closings[-1] in said(tokenizer, template, padded)
    answer = "holes.answers[loop.index0 - 1]" + (" | trim" if trims else "")
    tail = [
        f"{{%- set gap = {gap!r} -%}}{{%- set thought = {thought!r} -%}}{{%- set closings = {closings!r} -%}}",
        f"{{%- for piece in rendered.split('{HOLE}') -%}}",
        "{%- set here = namespace(text=piece, closing='') -%}",
        "{%- if not loop.first -%}",
        "{%- for closing in closings -%}{%- if piece.startswith(closing) -%}{%- set here.closing = closing -%}",
        "{%- endif -%}{%- endfor -%}",
        "{%- set here.text = piece[here.closing | length:] -%}",
        f"{{%- generation -%}}{{{{- gap ~ ({answer}) ~ here.closing -}}}}{{%- endgeneration -%}}",
        "{%- endif -%}",
        "{%- set answered = not loop.last -%}",
        "{%- if answered and gap and here.text.endswith(gap) -%}",
        "{%- set here.text = here.text[:here.text | length - gap | length] -%}{%- endif -%}",
        "{%- if answered and thought and loop.revindex0 == 1 and last_role == 'assistant' -%}",
        "{%- set here.text = here.text ~ thought -%}{%- endif -%}",
        "{{- here.text -}}{%- endfor -%}",
    ]
    return HEAD + template + MIDDLE + "".join(tail)


def unmarked(template: str) -> str:
    """The template that `marked` was given; any other without its generation marks."""
    before, head, rest = template.partition(HEAD)
    if head:
        return before + rest[: rest.index(MIDDLE)]
    return MARK.sub(_as_comment, template)


def _as_comment(found: re.Match[str]) -> str:
    """A comment in place of a mark: it takes away the line break that the mark's tag took. Comments are left alone."""
    return found[0] if found[0].startswith("{#") else f"{{#{found[1]} {found[2]}#}}"


def without_clock(template: str) -> str:
    """The template with one fixed day instead of today: else a model would be asked otherwise than it was trained."""
    return re.sub(
        r"strftime_now\(\s*(['\"])(.*?)\1\s*\)", lambda call: repr(TODAY.strftime(call[2])), template, flags=re.DOTALL
    )


def keeps_system(tokenizer: "PreTrainedTokenizerBase", template: str, probe: Sequence[Turn]) -> bool:
    """Whether the template prints a system message: as a turn of its own, or before the first patient's words."""
    from jinja2.exceptions import TemplateError

    try:
        return SYSTEM["content"] in said(tokenizer, template, [SYSTEM, *probe])
    except TemplateError:
        return False


def said(tokenizer: "PreTrainedTokenizerBase", template: str, messages: Sequence[Turn], asks: bool = False) -> str:
    """What the template prints, with the opening of the model's turn where it `asks`."""
    options: dict[str, Any] = {"chat_template": template, "tokenize": False, "add_generation_prompt": asks}
    return str(tokenizer.apply_chat_template([*messages], **options))  # type: ignore[arg-type]


def _pieces(tokenizer: "PreTrainedTokenizerBase", template: str, probe: Sequence[Turn]) -> list[str]:
    """The text around the answers of the probe."""
    holes: list[Turn] = [{**turn, "content": HOLE} if turn["role"] == "assistant" else turn for turn in probe]
    pieces = said(tokenizer, template, holes).split(HOLE)
    if len(pieces) != len(probe) // 2 + 1:
        raise UserError("it does not print the answers as they are; some vision models want lists of parts")
    return pieces


def _closing(tokenizer: "PreTrainedTokenizerBase", after: str) -> str:
    """White space and the added token with which the text `after` an answer begins; '' if it begins with none."""
    blank = after[: len(after) - len(after.lstrip())]
    rest = after[len(blank) :]
    added = [token.content for token in tokenizer.added_tokens_decoder.values() if token.content.strip()]
    return max((blank + token for token in added if rest.startswith(token)), key=len, default="")


def _has_control_token(tokenizer: "PreTrainedTokenizerBase", text: str) -> bool:
    added = (token.content for token in tokenizer.added_tokens_decoder.values())
    return bool(re.search(r"</?think>", text)) or any(token.strip() and token in text for token in added)


def _asks_also(template: str, more: str) -> str:
    return template + f"{{%- if add_generation_prompt %}}{{{{- {more!r} }}}}{{%- endif %}}"
