"""transformers: the attention implementation of a model, which its configuration keeps under a private name."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedConfig


def attention_of(config: "PreTrainedConfig") -> str:
    """The attention implementation in force, such as 'sdpa'."""
    return str(config._attn_implementation)


def set_attention(config: "PreTrainedConfig", name: str) -> None:
    """Set the attention implementation of a model that is not built yet.

    `set_attn_implementation` is public, but a method of the built model. `AutoModel.from_config` takes the name too,
    but shards the model where DeepSpeed ZeRO-3 is in force.
    """
    config._attn_implementation = name
