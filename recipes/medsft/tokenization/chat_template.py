"""Chat templates that render as the model's own does and mark the doctor's turns, so that only they carry loss."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from medsft.errors import UserError
from medsft.records import Turn
from medsft.tokenization.control_tokens import as_text

if TYPE_CHECKING:
    from transformers import BatchEncoding, PreTrainedTokenizerBase

FOLDER = Path(__file__).parent / "chat_templates"
# Two exchanges show how turns are joined and where the system message goes.
PROBE: list[Turn] = [
    {"role": "user", "content": "I have a headache."},
    {"role": "assistant", "content": "Since when?"},
    {"role": "user", "content": "Two days."},
    {"role": "assistant", "content": "Rest, and drink water."},
]

NO_THINKING = {"enable_thinking": False}  # Qwen3's switch; other templates ignore it


class Rendered(NamedTuple):
    """One dialogue as the model reads it: `input_ids` and `loss_mask` (1 where loss falls), both of length tokens."""

    input_ids: list[int]
    loss_mask: list[int]


def training_template(tokenizer: "PreTrainedTokenizerBase", path: str | None = None) -> str:
    """Jinja source that renders as the tokenizer's own template does and marks the answers for the loss.

    It is the first of: the file `path`; plain Patient:/Doctor: lines where the tokenizer has no template; the shipped
    template that renders the same text; TRL's patch for the families that it knows. Raises UserError where none
    applies, or where the end of turn would carry no loss.
    """
    template = _choose(tokenizer, path)
    try:
        rendered = render(tokenizer, PROBE, template)
    except Exception as error:  # jinja raises many types; all of them mean that the template is unusable
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


def render(tokenizer: "PreTrainedTokenizerBase", messages: Sequence[Turn], template: str) -> Rendered:
    """Tokenize a dialogue with a training template."""
    encoded = _applied(tokenizer, [*messages], chat_template=template, tokenize=True, return_assistant_tokens_mask=True)
    return Rendered(list(encoded["input_ids"]), list(encoded["assistant_masks"]))


def prompt_ids(tokenizer: "PreTrainedTokenizerBase", messages: Sequence[Turn]) -> list[int]:
    """Token ids of a prompt that ends with the opening of the model's own turn. Typed control tokens are broken.

    Thinking is switched off, as it is in training.
    """
    asked = as_text(tokenizer, messages)
    encoded = _applied(tokenizer, asked, add_generation_prompt=True, **NO_THINKING)
    return [*encoded["input_ids"]]


def _applied(tokenizer: "PreTrainedTokenizerBase", messages: list[Turn], **options: Any) -> "BatchEncoding":
    """`apply_chat_template`; raises UserError where the template raises an error or reaches for Python's internals."""
    from jinja2.exceptions import TemplateError

    try:
        encoded = tokenizer.apply_chat_template(messages, return_dict=True, **options)  # type: ignore[arg-type]
        return cast("BatchEncoding", encoded)
    except TemplateError as error:
        raise UserError(f"the model's chat template fails: {error}; mend it in the model's folder") from error


def inference_template(template: str) -> str:
    """The same template without the generation marks, which only training libraries understand."""
    return re.sub(r"\{%-?\s*(?:end)?generation\s*-?%\}", "", template)


def with_second_bos(tokenizer: "PreTrainedTokenizerBase", template: str) -> str:
    """The template after a second BOS, as when a text that begins with BOS is tokenized with special tokens.

    This is a fault of the source study, in training and in generation, kept to reproduce it.
    """
    if not tokenizer.bos_token:
        raise UserError("double_bos: this tokenizer has no BOS token to put twice; remove it")
    return "{{- bos_token }}" + template


def known_name(tokenizer: "PreTrainedTokenizerBase") -> str | None:
    """The name of the shipped template that renders as the tokenizer's own does; None if none does."""
    if tokenizer.chat_template is None:
        return "plain"
    own = _text(tokenizer, tokenizer.chat_template, **NO_THINKING)
    return next((f.stem for f in sorted(FOLDER.glob("*.jinja")) if _text(tokenizer, _read(f)) == own), None)


def saved_template(own: str | None, tokenizer: "PreTrainedTokenizerBase", template: str) -> str:
    """The chat template to save with a model trained by `template`: its own where both render the same by default.

    Qwen3's own makes the model think by default, which it was not trained to do here.
    """
    trained = inference_template(template)
    return own if own is not None and _text(tokenizer, own) == _text(tokenizer, trained) else trained


def stop_ids(tokenizer: "PreTrainedTokenizerBase") -> set[int]:
    """Tokens that end a turn: the tokenizer's end of sequence, and ChatML's end of turn where it exists."""
    ids = {tokenizer.eos_token_id}
    return ids | ({tokenizer.get_vocab()["<|im_end|>"]} if "<|im_end|>" in tokenizer.get_vocab() else set())


def _choose(tokenizer: "PreTrainedTokenizerBase", path: str | None) -> str:
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


def _text(tokenizer: "PreTrainedTokenizerBase", template: str, **switches: Any) -> str:
    """The probe rendered with and without a generation prompt; '' where the template raises an error."""
    from jinja2.exceptions import TemplateError

    def rendered(messages: list[Turn], **options: Any) -> str:
        options |= {"chat_template": template, "tokenize": False}
        return str(tokenizer.apply_chat_template(messages, **options))  # type: ignore[arg-type]

    try:
        return f"{rendered(PROBE)}\0{rendered(PROBE[:3], add_generation_prompt=True, **switches)}"
    except TemplateError:
        return ""
