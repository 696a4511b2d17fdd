"""Chat templates that are trained as they ask: marks around the doctor's turns, the tokens that end them, prompts."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from medsft.errors import UserError
from medsft.records import Turn
from medsft.tokenization import answer_marks
from medsft.tokenization.control_tokens import as_text

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

FOLDER = Path(__file__).parent / "chat_templates"
PLAIN = FOLDER / "plain.jinja"
# Two exchanges show how turns are joined and where the system message goes.
PROBE: list[Turn] = [
    {"role": "user", "content": "I have a headache."},
    {"role": "assistant", "content": "Since when?"},
    {"role": "user", "content": "Two days."},
    {"role": "assistant", "content": "Rest, and drink water."},
]

NO_THINKING = {"enable_thinking": False}  # the switch of Qwen3, GLM and others; other templates ignore it


class Rendered(NamedTuple):
    """One dialogue as the model reads it: `input_ids` and `loss_mask` (1 where loss falls), both of length tokens."""

    input_ids: list[int]
    loss_mask: list[int]


def training_template(tokenizer: "PreTrainedTokenizerBase", path: str | None = None) -> str:
    """Jinja source that renders as the tokenizer's own template does and marks the answers for the loss.

    It is the first of: the file `path`; plain Patient:/Doctor: lines where the tokenizer has no template; the shipped
    template that renders the same text; the tokenizer's own, in which the answers are found by rendering it. Models
    that can think answer at once. Raises UserError where a trained turn would not begin as a prompt ends, or where the
    end of turn would carry no loss.
    """
    source = _read(Path(path)) if path is not None else tokenizer.chat_template
    return _trainable(tokenizer, _state(tokenizer), source, path)


@lru_cache(maxsize=16)
def _trainable(tokenizer: "PreTrainedTokenizerBase", state: object, source: str | None, path: str | None) -> str:
    """`source` is the text of the template; `path` the file that it is from, if it is not the tokenizer's own."""
    name = path or "the model's chat template"
    try:
        template = _marked(tokenizer, source, given=path is not None)
        _check(tokenizer, template)
    except UserError as error:
        raise UserError(f"{name}: {error}; {_remedy()}") from error
    except Exception as error:  # jinja raises many types; all of them mean that the template is unusable
        reason = " ".join(str(error.__cause__ or error).split())
        raise UserError(f"{name}: cannot be rendered: {reason}; {_remedy()}") from error
    return template


def _marked(tokenizer: "PreTrainedTokenizerBase", source: str | None, given: bool) -> str:
    if source is None:
        return PLAIN.read_text(encoding="utf-8")
    if given and answer_marks.unmarked(source) != source:
        return answer_marks.without_clock(source)
    known = None if given else _known(tokenizer, source)
    if known is not None:
        return (FOLDER / f"{known}.jinja").read_text(encoding="utf-8")
    return answer_marks.marked(tokenizer, answer_marks.trained_as_asked(tokenizer, source, PROBE), PROBE)


def _state(tokenizer: "PreTrainedTokenizerBase") -> object:
    """What templates depend on and may change while a tokenizer lives."""
    return tokenizer.bos_token, tokenizer.eos_token, len(tokenizer), tuple(sorted(_published_stops(tokenizer)))


def _remedy() -> str:
    return f"give another with --chat_template_path FILE.jinja, for example Patient:/Doctor: lines: {PLAIN}"


def _check(tokenizer: "PreTrainedTokenizerBase", template: str) -> None:
    """Raise UserError where the last answer of the probe is not all that is learned after the prompt, with its end."""
    whole = render(tokenizer, PROBE, template)
    if not any(whole.loss_mask):
        raise UserError("marks nothing; put {% generation %} around the doctor's turn")
    if _last_learned(tokenizer, whole) not in _ends(tokenizer):
        raise UserError(
            "the end of turn is outside {% generation %}, so the model would never learn to stop; move it inside"
        )
    asked = _asked(tokenizer, PROBE[:-1], answer_marks.unmarked(template))
    if whole.input_ids[: len(asked)] != asked:
        raise UserError("a trained turn does not begin with the tokens that a prompt ends with")
    rest = zip(whole.input_ids[len(asked) :], whole.loss_mask[len(asked) :], strict=True)
    said = (token for token, learned in rest if not learned and str(tokenizer.decode([token])).strip())
    first = next(said, None)
    if first is not None and first not in _ends(tokenizer):  # Phi-3 adds its end of text after the last turn
        token = str(tokenizer.decode([first]))
        raise UserError(f"{token!r} is neither in a prompt nor learned: print it for add_generation_prompt too")


def render(tokenizer: "PreTrainedTokenizerBase", messages: Sequence[Turn], template: str) -> Rendered:
    """Tokenize a dialogue with a training template."""
    encoded = _applied(tokenizer, [*messages], chat_template=template, tokenize=True, return_assistant_tokens_mask=True)
    return Rendered(list(encoded["input_ids"]), list(encoded["assistant_masks"]))


def prompt_ids(tokenizer: "PreTrainedTokenizerBase", messages: Sequence[Turn]) -> list[int]:
    """Token ids of a prompt that ends with the opening of the model's own turn. Typed control tokens are broken.

    They are how a trained dialogue begins: without thoughts, and for a base model in Patient:/Doctor: lines.
    """
    return _asked(
        tokenizer, as_text(tokenizer, messages), _asking(tokenizer, _state(tokenizer), tokenizer.chat_template)
    )


@lru_cache(maxsize=16)
def _asking(tokenizer: "PreTrainedTokenizerBase", state: object, own: str | None) -> str:
    """The template of prompts; the model's own as it is where it cannot be trained, and arms have another one."""
    try:
        return answer_marks.unmarked(training_template(tokenizer))
    except UserError:
        if own is None or PROBE[0]["content"] not in _text(tokenizer, own):
            raise
        return own


def _asked(tokenizer: "PreTrainedTokenizerBase", messages: list[Turn], template: str) -> list[int]:
    """The tokens of the prompt as they are where an answer follows, which may join or part white space at its end."""
    text = _applied(
        tokenizer, messages, chat_template=template, add_generation_prompt=True, tokenize=False, **NO_THINKING
    )
    follows = _first_words(tokenizer, _state(tokenizer), template) if tokenizer.is_fast else ""
    encoded = tokenizer(text + follows, add_special_tokens=False, return_offsets_mapping=tokenizer.is_fast)
    ends = [end for _, end in encoded["offset_mapping"]] if tokenizer.is_fast else []
    if len(text) in ends:
        return [token for token, end in zip(encoded["input_ids"], ends, strict=True) if end <= len(text)]
    return [*tokenizer(text, add_special_tokens=False)["input_ids"]]


@lru_cache(maxsize=16)
def _first_words(tokenizer: "PreTrainedTokenizerBase", state: object, template: str) -> str:
    """What a trained turn of the probe says after its prompt: the answer, and what stands before it."""
    asked, whole = (
        _applied(tokenizer, turns, chat_template=template, add_generation_prompt=asks, tokenize=False, **NO_THINKING)
        for turns, asks in ((PROBE[:-1], True), (PROBE, False))
    )
    answer = PROBE[-1]["content"]
    return whole[len(asked) :].partition(answer)[0] + answer if whole.startswith(asked) else answer


def _applied(tokenizer: "PreTrainedTokenizerBase", messages: list[Turn], **options: Any) -> Any:
    """`apply_chat_template`; raises UserError where the template raises an error or reaches for Python's internals."""
    from jinja2.exceptions import TemplateError

    try:
        return tokenizer.apply_chat_template(messages, return_dict=True, **options)  # type: ignore[arg-type]
    except TemplateError as error:
        raise UserError(f"the model's chat template fails: {error}; mend it in the model's folder") from error


def inference_template(template: str) -> str:
    """The same template without the generation marks, which only training libraries understand."""
    return answer_marks.unmarked(template)


def with_second_bos(tokenizer: "PreTrainedTokenizerBase", template: str) -> str:
    """The template after a second BOS, as when a text that begins with BOS is tokenized with special tokens.

    This is a fault of the source study, in training and in generation, kept to reproduce it.
    """
    if not tokenizer.bos_token:
        raise UserError("double_bos: this tokenizer has no BOS token to put twice; remove it")
    return "{{- bos_token }}" + template


def known_name(tokenizer: "PreTrainedTokenizerBase") -> str | None:
    """The name of the shipped template that renders as the tokenizer's own does; None if none does."""
    own = tokenizer.chat_template
    return "plain" if own is None else _known(tokenizer, answer_marks.unmarked(str(own)))


def _known(tokenizer: "PreTrainedTokenizerBase", own: str) -> str | None:
    text = _text(tokenizer, own, **NO_THINKING)
    shipped = sorted(FOLDER.glob("*.jinja"))
    return next((f.stem for f in shipped if text and _text(tokenizer, f.read_text(encoding="utf-8")) == text), None)


def saved_template(own: str | None, tokenizer: "PreTrainedTokenizerBase", template: str) -> str:
    """The chat template to save with a model trained by `template`: its own where both render the same by default.

    Qwen3's own makes the model think by default, which it was not trained to do here.
    """
    trained = inference_template(template)
    return own if own is not None and _text(tokenizer, own) == _text(tokenizer, trained) else trained


def stop_ids(tokenizer: "PreTrainedTokenizerBase") -> set[int]:
    """Tokens that end a turn: the end of sequence, those that the model's generation_config.json names (kept by
    `loading.load_tokenizer`), and those with which its chat template closes an answer.
    """
    return _published_stops(tokenizer) | _closing_ids(tokenizer, _state(tokenizer), tokenizer.chat_template)


def _published_stops(tokenizer: "PreTrainedTokenizerBase") -> set[int]:
    published = cast("list[int]", getattr(tokenizer, "published_stops", []))
    return {tokenizer.eos_token_id, *published} - {None}


@lru_cache(maxsize=16)
def _closing_ids(tokenizer: "PreTrainedTokenizerBase", state: object, own: str | None) -> frozenset[int]:
    """The last token learned of each answer of the probe. `own` is the tokenizer's template; none where it is refused,
    because arms bring another one."""
    try:
        template = own if own and answer_marks.unmarked(own) != own else training_template(tokenizer)
        turns = [render(tokenizer, PROBE[: end + 1], template) for end in (1, 3)]
        turns.append(_without_last(render(tokenizer, PROBE, template)))
    except UserError:
        return frozenset()
    return frozenset(_last_learned(tokenizer, turn) for turn in turns) & _added_ids(tokenizer)


def _without_last(rendered: Rendered) -> Rendered:
    """Up to the end of the answer before the last."""
    mask = rendered.loss_mask
    last = max(at for at, kept in enumerate(mask) if kept)
    start = max((at for at in range(last) if not mask[at]), default=0)
    return Rendered(rendered.input_ids[:start], mask[:start])


def _last_learned(tokenizer: "PreTrainedTokenizerBase", rendered: Rendered) -> int:
    """The last token that carries loss and is not white space, with which marks may end; -1 if there is none."""
    pairs = zip(reversed(rendered.input_ids), reversed(rendered.loss_mask), strict=True)
    return next((token for token, kept in pairs if kept and str(tokenizer.decode([token])).strip()), -1)


def _ends(tokenizer: "PreTrainedTokenizerBase") -> set[int]:
    """What may end a turn: the stops of the model, and its other control tokens."""
    return _published_stops(tokenizer) | _added_ids(tokenizer)


def _added_ids(tokenizer: "PreTrainedTokenizerBase") -> set[int]:
    return set(tokenizer.added_tokens_decoder)


def _read(path: Path) -> str:
    if not path.is_file():
        raise UserError(f"--chat_template_path {path}: no such file")
    return path.read_text(encoding="utf-8")


def takes_system(tokenizer: "PreTrainedTokenizerBase", template: str) -> bool:
    """Whether a training template prints a system turn by itself: not where one is put before the patient's words
    because the model's own template refuses it, or leaves it out."""
    asking = answer_marks.unmarked(template)
    return answer_marks.MERGED_SYSTEM not in asking and answer_marks.keeps_system(tokenizer, asking, PROBE)


def prints_system(tokenizer: "PreTrainedTokenizerBase", template: str) -> bool:
    """Whether a system turn is in the text of a training template, wherever it stands."""
    return answer_marks.keeps_system(tokenizer, answer_marks.unmarked(template), PROBE)


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
