"""A tokenizer in a GGUF file, as llama.cpp reads it: its tokens, how text is split, its ends of turn, its template."""

import json
from typing import TYPE_CHECKING, Any

from gguf import GGUFWriter, TokenType

from medsft.errors import UserError
from medsft.tokenization import chat_template

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# llama.cpp has the ways of splitting text built in, and a file names one. These are the names of those that the
# tokenizers of Llama, Mistral, Qwen and SmolLM use; the regular expressions are from their tokenizer.json.
WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
SPLITS = {WORDS % r"\p{N}{1,3}": "llama-bpe", WORDS % r"\p{N}": "qwen2"}


def write(writer: GGUFWriter, tokenizer: "PreTrainedTokenizerBase", size: int) -> None:
    """Write the tokenizer for a model with `size` embeddings. Raises UserError for one that llama.cpp does not split
    as it does."""
    source = json.loads(tokenizer.backend_tokenizer.to_str())  # type: ignore[attr-defined]
    model = source["model"]
    if model["type"] != "BPE":
        raise UserError(
            f"--format gguf: a tokenizer of the kind {model['type']} is not written here; use --format vllm"
        )
    merges = [pair if isinstance(pair, list) else pair.split(" ") for pair in model["merges"]]
    tokens, types = _tokens(tokenizer, size, bytes_apart=model["byte_fallback"])
    if model["byte_fallback"]:  # trained by SentencePiece: the earlier a merge was learned, the higher its score
        writer.add_tokenizer_model("llama")
        writer.add_tokenizer_pre("default")
        ranks: dict[str, int] = {}
        for rank, (left, right) in enumerate(merges):
            ranks.setdefault(left + right, rank)
        writer.add_token_scores([-float(ranks.get(token, len(ranks))) for token in tokens])
        writer.add_add_space_prefix(_prepends(source))
    else:
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(_split(source["pre_tokenizer"]))
        # a blank parts the two halves; inside of one it is written as llama.cpp's converter does
        writer.add_token_merges([" ".join(half.replace(" ", "\u0120") for half in pair) for pair in merges])
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    _write_special(writer, tokenizer)


def _tokens(tokenizer: "PreTrainedTokenizerBase", size: int, bytes_apart: bool) -> tuple[list[str], list[TokenType]]:
    """Every token by its id and its type; rows of the embedding without a token are unused."""
    names = {index: token for token, index in tokenizer.get_vocab().items()}
    added = tokenizer.added_tokens_decoder
    tokens, types = [], []
    for index in range(size):
        name = names.get(index, f"[PAD{index}]")
        if index not in names:
            kind = TokenType.UNUSED
        elif bytes_apart and index == tokenizer.unk_token_id:
            kind = TokenType.UNKNOWN
        elif index in added:
            kind = TokenType.CONTROL if added[index].special else TokenType.USER_DEFINED
        elif bytes_apart and len(name) == 6 and name.startswith("<0x"):
            kind = TokenType.BYTE
        else:
            kind = TokenType.NORMAL
        tokens.append(name)
        types.append(kind)
    return tokens, types


def _write_special(writer: GGUFWriter, tokenizer: "PreTrainedTokenizerBase") -> None:
    stops = chat_template.stop_ids(tokenizer)
    ends = [tokenizer.eos_token_id, *sorted(stops - {tokenizer.eos_token_id})]
    for add, index in (
        (writer.add_bos_token_id, tokenizer.bos_token_id),
        (writer.add_eos_token_id, ends[0]),
        (writer.add_eot_token_id, ends[1] if len(ends) > 1 else None),
        (writer.add_eom_token_id, ends[2] if len(ends) > 2 else None),
        (writer.add_unk_token_id, tokenizer.unk_token_id),
        (writer.add_pad_token_id, tokenizer.pad_token_id),
    ):
        if index is not None:
            add(index)
    if len(ends) > 3:
        raise UserError(f"--format gguf: {len(ends)} tokens end a turn of this model, and a GGUF file names three")
    begins = tokenizer("a")["input_ids"][:1] == [tokenizer.bos_token_id]
    writer.add_add_bos_token(begins)
    writer.add_add_eos_token(False)
    writer.add_chat_template(str(tokenizer.chat_template))


def _prepends(source: dict[str, Any]) -> bool:
    """Whether a blank is put before a text."""
    steps = [source["normalizer"] or {}, source["pre_tokenizer"] or {}]
    steps += [part for step in steps for part in (*step.get("normalizers", ()), *step.get("pretokenizers", ()))]
    return any(step.get("type") == "Prepend" or step.get("prepend_scheme", "never") != "never" for step in steps)


def _split(source: dict[str, Any]) -> str:
    """llama.cpp's name of a byte-level pre-tokenizer."""
    steps = source.get("pretokenizers", [source])
    kinds = [step["type"] for step in steps]
    if kinds == ["ByteLevel"] and steps[0]["use_regex"]:
        return "gpt-2"
    if kinds == ["Digits", "ByteLevel"] and steps[0]["individual_digits"] and steps[1]["use_regex"]:
        return "smollm"
    if kinds == ["Split", "ByteLevel"] and (name := SPLITS.get(steps[0]["pattern"].get("Regex", ""))):
        return name
    raise UserError(f"--format gguf: llama.cpp's name of this tokenizer's splitting ({kinds}) is unknown; use vllm")
