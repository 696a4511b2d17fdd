"""Real vocabularies of packages that `make test` installs apart, as tokenizers."""

import base64
import sys
from pathlib import Path
from typing import Any

import pytest

from conftest import ROOT

LLAMA_3 = ["<|begin_of_text|>", "<|end_of_text|>", "<|reserved_special_token_0|>", "<|reserved_special_token_1|>"]
LLAMA_3 += ["<|finetune_right_pad_id|>", "<|step_id|>", "<|start_header_id|>", "<|end_header_id|>", "<|eom_id|>"]
LLAMA_3 += ["<|eot_id|>", "<|python_tag|>"]


def package_file(package: str, file: str) -> Path | None:
    """A file of a package, None where it is not installed."""
    places = [folder / package / file for folder in (Path(sys.prefix) / "test-only", ROOT / ".venv" / "test-only")]
    return next((path for path in places if path.is_file()), None)


def package_data(package: str, file: str) -> Path:
    return package_file(package, file) or pytest.fail(f"{package} is not installed; run the tests by `make test`")


def from_tiktoken(file: Path, special: list[str], **pattern: str) -> Any:
    """A tokenizer from a file of 'base64 rank' lines, its special tokens after the last rank."""
    from transformers import PreTrainedTokenizerFast
    from transformers.convert_slow_tokenizer import TikTokenConverter

    class Converter(TikTokenConverter):
        @staticmethod
        def load_tiktoken_bpe(tiktoken_url: str) -> dict[bytes, int]:
            words = (line.split() for line in Path(tiktoken_url).read_bytes().splitlines() if line)
            return {base64.b64decode(token): int(rank) for token, rank in words}

    made = Converter(str(file), extra_special_tokens=special, **pattern).converted()
    return PreTrainedTokenizerFast(tokenizer_object=made)


def llama_3() -> Any:
    """Meta's tokenizer of Llama 3, without a chat template."""
    tokenizer = from_tiktoken(package_data("llama_models", "llama3/tokenizer.model"), LLAMA_3)
    tokenizer.bos_token, tokenizer.eos_token = "<|begin_of_text|>", "<|eot_id|>"
    return tokenizer
