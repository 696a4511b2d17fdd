"""The chat templates that TRL ships, and a tokenizer with the control tokens of all of them."""

import re
from pathlib import Path
from typing import Any

import trl

from medsft.models import embedded, loading

SHIPPED = Path(trl.__file__).parent / "chat_templates"
FAMILIES = sorted(path.stem for path in SHIPPED.glob("*.jinja") if not path.stem.endswith("_training"))
PARTS_ONLY = {"idefics3", "smolvlm", "llava_next"}  # vision models, whose templates print lists of parts, not text
PHI_4_MINI = (  # as in microsoft/Phi-4-mini-instruct; TRL has none of it
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% else %}{{ eos_token }}{% endif %}"
)


def tokenizer_of_all_families() -> Any:
    """The embedded model's tokenizer, which also knows the control tokens of every family."""
    tokenizer = loading.load_tokenizer(embedded.SMOLLM2)
    text = "".join((SHIPPED / f"{name}.jinja").read_text() for name in FAMILIES)
    found = set(re.findall(r"<\|?[^\s<>'\"{}|]{1,40}\|?>|<\|?[A-Za-z_]+\|?>|<｜[^<>\s]{1,40}｜>|\[[A-Z_/]+\]", text))
    tokenizer.add_special_tokens({"additional_special_tokens": sorted(found - {"<think>", "</think>"})})
    tokenizer.add_tokens(["<think>", "</think>"])  # ordinary added tokens, as in Qwen3
    tokenizer.bos_token = "<bos>"
    return tokenizer
