"""Write a decoder with its tokenizer as a GGUF file, llama.cpp's format, by the `gguf` package of its authors.

llama.cpp's own converter is a script of its repository and in no maintained package. Tensor by tensor, so that the
largest one bounds the memory.
"""

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gguf
import numpy as np

from medsft.errors import UserError
from medsft.serving import gguf_quantization, gguf_vocabulary

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# model_type of config.json: the architecture as llama.cpp calls it
ARCHITECTURES = {"llama": "llama", "mistral": "llama", "qwen2": "qwen2", "qwen3": "qwen3"}
Weights = dict[str, tuple[Path, list[int]]]  # weight: its file and shape


def check(config: Any) -> None:
    """Raise UserError for a decoder that is not written here, before anything is merged."""
    kind = config.model_type
    if kind not in ARCHITECTURES:
        known = ", ".join(sorted(ARCHITECTURES))
        raise UserError(
            f"--format gguf: models of the kind {kind} are not written here, only {known}; use --format vllm"
        )
    rope = config.rope_parameters["rope_type"]
    if rope not in ("default", "llama3"):
        raise UserError(f"--format gguf: rotary positions of the kind {rope} are not written here; use --format vllm")
    if getattr(config, "attention_bias", False) and kind in ("llama", "qwen3"):
        raise UserError("--format gguf: biases in attention are not written here for this model; use --format vllm")


def write(folder: Path, file: Path, tokenizer: "PreTrainedTokenizerBase", name: str, kind: str, context: int) -> None:
    """Write the model in `folder` (config.json, safetensors) to `file`; its matrices in `kind`, vectors in float32."""
    from medsft.models.loading import load_config

    config = load_config(str(folder))
    check(config)
    architecture = ARCHITECTURES[config.model_type]
    writer = gguf.GGUFWriter(file, architecture)
    _write_config(writer, config, name, kind, context)
    gguf_vocabulary.write(writer, tokenizer, config.vocab_size)

    plan = []
    for target, source, shape in _tensors(folder, config, architecture):
        stored = gguf_quantization.type_of(target, shape, kind, config)
        size = gguf_quantization.byte_shape(shape, stored)
        plan.append((source, stored))
        writer.add_tensor_info(target, size, np.dtype(np.uint8), math.prod(size), raw_dtype=stored)
    factors = _rope_factors(config)
    if factors is not None:
        writer.add_tensor_info("rope_freqs.weight", factors.shape, factors.dtype, factors.nbytes)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    weights = _weights(folder)
    for source, stored in plan:
        values = _load(weights[source][0], source)
        if architecture == "llama" and re.search(r"\.[qk]_proj\.", source):
            heads = config.num_attention_heads if ".q_proj." in source else config.num_key_value_heads
            values = interleaved(values, heads)
        writer.write_tensor_data(gguf_quantization.encode(values, stored))
    if factors is not None:
        writer.write_tensor_data(factors)
    writer.close()


def interleaved(values: np.ndarray, heads: int) -> np.ndarray:
    """Rows of a query or key matrix in the order of llama.cpp's Llama, which turns neighbours where transformers turns
    the two halves of a head: row j of the first half, row j of the second, row j + 1 of the first, ..."""
    half = values.shape[0] // heads // 2
    order = np.arange(values.shape[0]).reshape(heads, 2, half).transpose(0, 2, 1).ravel()
    return values[order]


def _write_config(writer: gguf.GGUFWriter, config: Any, name: str, kind: str, context: int) -> None:
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    writer.add_name(name)
    writer.add_file_type(gguf_quantization.FILE_TYPES[kind])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_vocab_size(config.vocab_size)
    writer.add_context_length(context)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(width)
    writer.add_value_length(width)
    writer.add_rope_dimension_count(width)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])


def _tensors(folder: Path, config: Any, architecture: str) -> Iterator[tuple[str, str, list[int]]]:
    """(name in the file, name in safetensors, shape) of every weight. Raises UserError for one without a place."""
    known = {name: kind for kind, name in gguf.MODEL_ARCH_NAMES.items()}
    names = gguf.get_tensor_name_map(known[architecture], config.num_hidden_layers)
    for source, (_, shape) in sorted(_weights(folder).items()):
        if source == "lm_head.weight" and config.tie_word_embeddings:
            continue
        target = names.get_name(source, try_suffixes=(".weight", ".bias"))
        if target is None:
            raise UserError(
                f"--format gguf: the weight {source} has no place in a GGUF file of the kind {architecture}"
            )
        yield target, source, shape


def _weights(folder: Path) -> Weights:
    from safetensors import safe_open

    found: Weights = {}
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, "np") as opened:
            found |= {name: (file, opened.get_slice(name).get_shape()) for name in opened.keys()}  # noqa: SIM118
    return found


def _load(file: Path, name: str) -> np.ndarray:
    """A weight in float32."""
    from safetensors import safe_open

    with safe_open(file, "pt") as opened:  # numpy has no bfloat16
        values: np.ndarray = opened.get_tensor(name).float().numpy()
    return values


def _rope_factors(config: Any) -> np.ndarray | None:
    """What the wavelength of each pair of positions is divided by in Llama 3.1 and later; None for other models.

    Source: transformers' `llama3` rotary positions (modeling_rope_utils), as the ratio of frequencies without and with.
    """
    if config.rope_parameters["rope_type"] == "default":
        return None
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    scaled = ROPE_INIT_FUNCTIONS["llama3"](config, "cpu")[0].numpy()
    width = 2 * len(scaled)
    plain = config.rope_parameters["rope_theta"] ** (-np.arange(0, width, 2, dtype=np.float32) / width)
    ratio: np.ndarray = (plain / scaled).astype(np.float32)
    return ratio
