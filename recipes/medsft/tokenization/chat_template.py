"""The model's own chat template, with the doctor's turns marked, so that loss falls on them and nowhere else."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from medsft.errors import UserError
from medsft.records import Turn
from medsft.tokenization.control_tokens import as_text

FOLDER = Path(__file__).parent / "chat_templates"
# Two rounds show how turns are joined and where the system message goes; the spaces show whether content is stripped.
PROBE = [
    {"role": "user", "content": "I have a headache."},
    {"role": "assistant", "content": "Since when?"},
    {"role": "user", "content": "Two days."},
    {"role": "assistant", "content": "Rest, and drink water."},
]

AT_ONCE = {"enable_thinking": False}  # Qwen3's switch; templates without one do not read it


class Rendered(NamedTuple):
    """One dialogue as the model reads it: `input_ids` and `loss_mask` (1 where loss falls), both of length tokens."""

    input_ids: list[int]
    loss_mask: list[int]


def training_template(tokenizer: Any, path: str | None = None) -> str:
    """Jinja source that renders as the tokenizer's own template does and marks the answers for the loss.

    Taken from, in this order: `path`; plain Patient:/Doctor: lines where the tokenizer has no template; the shipped
    template that renders the same text; TRL's patch for the families it knows. Raises UserError where none applies or
    where the end of turn would carry no loss.
    """
    template = _choose(tokenizer, path)
    try:
        rendered = render(tokenizer, PROBE, template)
    except Exception as error:  # jinja raises many kinds; all of them mean that the template is unusable here
        reason = " ".join(str(error.__cause__ or error).split())
        raise UserError(
            f"{path or 'chat template'}: cannot be rendered: {reason}; give a fixed one with --chat_template_path "
            "FILE.jinja"
        ) from error
    if not any(rendered.loss_mask):
        raise UserError(f"{path or 'chat template'}: marks nothing; put {{% generation %}} around the doctor's turn")
    last = rendered.input_ids[max(i for i, kept in enumerate(rendered.loss_mask) if kept)]
    if last not in stop_ids(tokenizer):
        raise UserError(
            f"{path or 'chat template'}: the end of turn is outside {{% generation %}}, so the model would never learn "
            "to stop; move it inside, or give a fixed template with --chat_template_path FILE.jinja"
        )
    return template


def render(tokenizer: Any, messages: Sequence[Turn] | Sequence[dict[str, str]], template: str) -> Rendered:
    """Tokenize a dialogue with a training template."""
    encoded = _applied(
        tokenizer, messages, chat_template=template, tokenize=True, return_dict=True, return_assistant_tokens_mask=True
    )
    return Rendered(list(encoded["input_ids"]), list(encoded["assistant_masks"]))


def prompt_ids(tokenizer: Any, messages: Sequence[Turn] | Sequence[dict[str, str]]) -> list[int]:
    """Token ids of what the model is asked, with the opening of its own turn. Whatever was typed stays text.

    A model that can think aloud is asked to answer at once, as the arms are trained to.
    """
    asked = as_text(tokenizer, messages)
    encoded = _applied(tokenizer, asked, add_generation_prompt=True, return_dict=True, **AT_ONCE)
    return [*encoded["input_ids"]]


def _applied(tokenizer: Any, messages: Any, **options: Any) -> Any:
    """`apply_chat_template`; raises UserError where the template itself gives up, or reaches for Python's insides."""
    from jinja2.exceptions import TemplateError

    try:
        return tokenizer.apply_chat_template(messages, **options)
    except TemplateError as error:
        raise UserError(f"the model's chat template fails: {error}; mend it in the model's folder") from error


def inference_template(template: str) -> str:
    """The same template without the marks, which only training libraries understand."""
    return re.sub(r"\{%-?\s*(?:end)?generation\s*-?%\}", "", template)


def with_second_bos(tokenizer: Any, template: str) -> str:
    """The template after another BOS: what tokenizing a text that begins with BOS makes of it.

    The source study's fault, in training and in generation, kept for reproducing it.
    """
    if not tokenizer.bos_token:
        raise UserError("double_bos: this tokenizer has no BOS token to put twice; remove it")
    return "{{- bos_token }}" + template


def known_name(tokenizer: Any) -> str | None:
    """The shipped template that renders as the tokenizer's own does: its name without ending; None if none does."""
    if tokenizer.chat_template is None:
        return "plain"
    own = _text(tokenizer, tokenizer.chat_template, **AT_ONCE)
    return next((f.stem for f in sorted(FOLDER.glob("*.jinja")) if _text(tokenizer, _read(f)) == own), None)


def saved_template(own: str | None, tokenizer: Any, template: str) -> str:
    """The chat template to save with a model trained by `template`: its own where that says the same unasked.

    Qwen3's own would have whoever serves the model ask it to think aloud, which it was not trained to do here.
    """
    trained = inference_template(template)
    return own if own is not None and _text(tokenizer, own) == _text(tokenizer, trained) else trained


def stop_ids(tokenizer: Any) -> set[int]:
    """Tokens that end a turn: the tokenizer's end of sequence, and ChatML's end of turn where it exists."""
    ids = {tokenizer.eos_token_id}
    return ids | ({tokenizer.convert_tokens_to_ids("<|im_end|>")} if "<|im_end|>" in tokenizer.get_vocab() else set())


def _choose(tokenizer: Any, path: str | None) -> str:
    if path is not None:
        return _read(Path(path))
    if tokenizer.chat_template is None:
        return _read(FOLDER / "plain.jinja")
    known = known_name(tokenizer)
    if known is not None:
        return _read(FOLDER / f"{known}.jinja")

    from trl.chat_template_utils import get_training_chat_template

    try:
        return get_training_chat_template(tokenizer) or tokenizer.chat_template
    except ValueError as error:
        raise UserError(
            "the model's chat template does not mark the assistant's turns and is not one of the known ones; copy it "
            "to a file, put {% generation %} and {% endgeneration %} around the answer and its end of turn, and pass "
            "--chat_template_path FILE.jinja"
        ) from error


def _read(path: Path) -> str:
    if not path.is_file():
        raise UserError(f"--chat_template_path {path}: no such file")
    return path.read_text(encoding="utf-8")


def _text(tokenizer: Any, template: str, **switches: bool) -> str:
    """What a template makes of the probe, with and without a generation prompt; '' if it refuses."""
    from jinja2.exceptions import TemplateError

    try:
        whole = tokenizer.apply_chat_template(PROBE, chat_template=template, tokenize=False)
        asked = tokenizer.apply_chat_template(
            PROBE[:3], chat_template=template, tokenize=False, add_generation_prompt=True, **switches
        )
    except TemplateError:
        return ""
    return f"{whole}\0{asked}"
