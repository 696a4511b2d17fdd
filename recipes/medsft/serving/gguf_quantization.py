"""How the weights of a GGUF file are stored: f32, f16, bf16, q8_0 by the `gguf` package; q4_k_m by llama.cpp's library.

q4_k_m is llama.cpp's mixture: 4.5 bits a weight in super-blocks of 256 (Q4_K), and 6.6 bits (Q6_K) for the output and
for half of the layers' value and down projections, where errors cost most. `ggml_quantize_chunk`, of ggml.h, is
exported by the compiled module of xllamacpp.
"""

import ctypes
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Stored

from medsft.errors import UserError

FILE_TYPES = {
    "f32": gguf.LlamaFileType.ALL_F32,
    "f16": gguf.LlamaFileType.MOSTLY_F16,
    "bf16": gguf.LlamaFileType.MOSTLY_BF16,
    "q8_0": gguf.LlamaFileType.MOSTLY_Q8_0,
    "q4_k_m": gguf.LlamaFileType.MOSTLY_Q4_K_M,
}
PLAIN = {"f32": Stored.F32, "f16": Stored.F16, "bf16": Stored.BF16, "q8_0": Stored.Q8_0}
# Rows that no super-block divides, such as SmolLM2-135M's of 576, take llama.cpp's next format with blocks of 32.
SMALLER_BLOCKS = {Stored.Q4_K: Stored.Q5_0, Stored.Q6_K: Stored.Q8_0}
INSTALL = 'pip install -e ".[serving]"'


def check(kind: str) -> None:
    """Raise UserError for an unknown `kind`, or one whose quantizer is not installed."""
    if kind not in FILE_TYPES:
        raise UserError(f"--quantize {kind}: choose one of {', '.join(FILE_TYPES)}")
    if kind == "q4_k_m" and find_spec("xllamacpp") is None:
        raise UserError(f"--quantize q4_k_m is done by llama.cpp's library, which is not installed: {INSTALL}")


def type_of(name: str, shape: list[int], kind: str, config: Any) -> Stored:
    """How the weight `name` of a file of this `kind` is stored. Vectors stay in float32."""
    if len(shape) == 1:
        return Stored.F32
    chosen = PLAIN[kind] if kind in PLAIN else _mixture(name, config)
    block = gguf.GGML_QUANT_SIZES[chosen][0]
    if shape[-1] % block:
        chosen = SMALLER_BLOCKS.get(chosen, Stored.F16)
    return chosen


def _mixture(name: str, config: Any) -> Stored:
    layers = config.num_hidden_layers
    output = "token_embd" if config.tie_word_embeddings else "output"
    if name == f"{output}.weight":
        return Stored.Q6_K
    if ".attn_v." in name or ".ffn_down." in name:
        layer = int(name.split(".")[1])
        eighth = layers // 8
        if layer < eighth or layer >= 7 * eighth or (layer - eighth) % 3 == 2:
            return Stored.Q6_K
    return Stored.Q4_K


def byte_shape(shape: list[int], stored: Stored) -> tuple[int, ...]:
    """The shape in bytes of a weight of `shape` values."""
    return gguf.quant_shape_to_byte_shape(shape, stored)


def encode(values: np.ndarray, stored: Stored) -> np.ndarray:
    """Float32 values as the bytes of a GGUF file, of shape `byte_shape`."""
    if stored in (Stored.Q4_K, Stored.Q6_K, Stored.Q5_0):
        return _by_library(values, stored)
    encoded: np.ndarray = gguf.quantize(values, stored).view(np.uint8)
    return encoded


def _by_library(values: np.ndarray, stored: Stored) -> np.ndarray:
    rows, width = values.shape
    values = np.ascontiguousarray(values, np.float32)
    encoded = np.empty(byte_shape([rows, width], stored), np.uint8)
    written = _library().ggml_quantize_chunk(
        stored.value, values.ctypes.data, encoded.ctypes.data, 0, rows, width, None
    )
    if written != encoded.nbytes:
        raise UserError(f"llama.cpp's quantizer wrote {written} bytes of {encoded.nbytes}; --quantize q8_0 needs none")
    return encoded


@cache
def _library() -> Any:
    spec = find_spec("xllamacpp")
    if spec is None or spec.origin is None:
        raise UserError(f"llama.cpp's library is not installed: {INSTALL}")
    library = ctypes.CDLL(str(next(Path(spec.origin).parent.glob("xllamacpp*.so"))))
    quantize = library.ggml_quantize_chunk
    quantize.restype = ctypes.c_size_t
    numbers = [ctypes.c_int64] * 3
    quantize.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, *numbers, ctypes.c_void_p]
    return library
