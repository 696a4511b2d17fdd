"""Whether a model can be trained and asked here, from its config.json: before weights are read."""

from pathlib import Path
from typing import TYPE_CHECKING

from medsft.errors import UserError
from medsft.files import read_json
from medsft.models.loading import load_config, resolve

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

UNBOUNDED = 2**31  # state-space models have no positions


def positions(config: "PreTrainedConfig") -> int:
    """Tokens that a row of this model may have, question and answer together."""
    return int(getattr(config.get_text_config(), "max_position_embeddings", None) or UNBOUNDED)


def check_length(name: str, max_length: int) -> None:
    """Raise UserError where rows of `max_length` tokens have more than the positions of model `name`.

    A folder's config.json is read without transformers, whose import takes seconds; without one it is a tokenizer.
    """
    folder = Path(resolve(name))
    if folder.is_dir() and not (folder / "config.json").is_file():
        return
    known = _stated_positions(folder / "config.json") if folder.is_dir() else 0
    known = known or positions(load_config(name))
    if max_length > known:
        raise UserError(f"max_length {max_length}: model '{name}' has {known} positions; use --max_length {known}")


def _stated_positions(file: Path) -> int:
    """max_position_embeddings as a config.json has it, 0 where it leaves that to the architecture."""
    config = read_json(file)
    if not isinstance(config, dict):
        return 0
    text = config.get("text_config")
    stated = (text if isinstance(text, dict) else config).get("max_position_embeddings")
    return stated if isinstance(stated, int) else 0


def check_base(name: str, max_length: int | None) -> "PreTrainedConfig":
    """The configuration of a base model that is to be trained on rows of `max_length` tokens.

    Raises UserError where it is quantized already, or has fewer positions.
    """
    config = load_config(name)
    quantized = getattr(config, "quantization_config", None)
    if quantized:
        how = quantized.get("quant_method") if isinstance(quantized, dict) else quantized.quant_method
        raise UserError(
            f"model '{name}' is quantized already ({getattr(how, 'value', how)}): its weights cannot be trained, nor "
            "adapters merged into them; name the unquantized model that it was made from (load_in_4bit: true quantizes "
            "it for QLoRA)"
        )
    if max_length is not None and max_length > positions(config):
        raise UserError(
            f"max_length {max_length}: model '{name}' has {positions(config)} positions; run prepare_data.py and the "
            f"training with --max_length {positions(config)}"
        )
    return config


def check_targets(config: "PreTrainedConfig", targets: str | list[str]) -> None:
    """Raise UserError where the model has no linear layer of a name in `targets`; a pattern is left to PEFT."""
    from medsft.models.parameter_counts import count_lora

    if not isinstance(targets, str):
        try:
            count_lora(config, 1, [target.rpartition(".")[2] for target in targets])
        except UserError as error:
            raise UserError(f"lora_target_modules: {error}") from error


def check_answers(config: "PreTrainedConfig", longest: int, max_new_tokens: int) -> None:
    """Raise UserError where a prompt of `longest` tokens and its answer exceed the model's positions."""
    if longest + max_new_tokens > positions(config):
        room = positions(config) - longest
        remedy = f"use --max_new_tokens {room}" if room > 0 else "prepare the split with a smaller --max_length"
        raise UserError(
            f"max_new_tokens {max_new_tokens}: the longest prompt has {longest} tokens, and the model "
            f"{positions(config)} positions; {remedy}"
        )


def check_vocabulary(name: str, config: "PreTrainedConfig", token: int, text: str) -> None:
    """Raise UserError where `token`, which stands for `text` in the chat template, has no row in the embedding."""
    rows = int(config.get_text_config().vocab_size)
    if token >= rows:
        raise UserError(
            f"model '{name}' has {rows} rows in its embedding, and its tokenizer gives {text!r} of the chat template "
            f"the id {token}: they are not of one model; use the tokenizer that was published with the weights"
        )
