"""Eager attention on a processor without a copy of each key and value for every query head that shares it.

Grouped-query attention (Ainslie et al. 2023, https://arxiv.org/abs/2305.13245) gives several query heads one head of
keys and values. The eager attention of transformers first copies those for each query head: at every layer of every new
token the whole cache. Here the queries of a group are rows of one product instead. The arithmetic is the same.
"""

from typing import TYPE_CHECKING

import torch

from medsft.patches.transformers import attention_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel

NAME = "grouped_eager"
PLAIN = ("llama", "mistral", "qwen2", "qwen3")  # model types whose eager attention has no caps, sinks or biases


def use(network: "PreTrainedModel") -> bool:
    """Switch a model that attends eagerly over; False, and left alone, where it attends otherwise or has no groups."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import eager_mask

    config = network.config
    heads, shared = getattr(config, "num_attention_heads", 0), getattr(config, "num_key_value_heads", 0)
    if config.model_type not in PLAIN or attention_of(config) != "eager" or not 0 < shared < heads:
        return False
    AttentionInterface.register(NAME, attention)
    AttentionMaskInterface.register(NAME, eager_mask)
    network.set_attn_implementation(NAME)
    return True


def attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    **_: object,
) -> tuple[torch.Tensor, torch.Tensor]:
    """(b, heads, q, d) queries, (b, groups, k, d) keys and values -> (b, q, heads, d) and weights (b, heads, q, k)."""
    batch, heads, length, _size = query.shape
    groups = key.shape[1]
    rows = query.reshape(batch, groups, heads // groups * length, -1)
    scores = torch.matmul(rows, key.transpose(2, 3)).view(batch, heads, length, -1) * scaling
    if attention_mask is not None:
        scores = scores + attention_mask
    weights = torch.nn.functional.softmax(scores, dim=-1, dtype=torch.float32).to(query.dtype)
    weights = torch.nn.functional.dropout(weights, p=dropout, training=module.training)
    found = torch.matmul(weights.view(*rows.shape[:3], -1), value).view(batch, heads, length, -1)
    return found.transpose(1, 2).contiguous(), weights
