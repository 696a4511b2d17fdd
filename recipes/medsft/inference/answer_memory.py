"""Whether an arm's answers fit this machine, before its weights are read and before the first answer is written."""

import os
from typing import TYPE_CHECKING, Any

from medsft.errors import DoesNotFit, UserError
from medsft.hardware.cgroups import host_memory
from medsft.inference.shards import Shard
from medsft.models.parameter_counts import cache_bytes, sizes_of
from medsft.patches.transformers import attention_of

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

USED = 0.9  # of what is free beside the weights: allocators keep some of it apart
BYTES = {"bfloat16": 2, "float32": 4}
NF4_BITS = 4.5  # of a weight with its scales; 4.127 where these are quantized too (arXiv:2305.14314)
UNPACKED = 0.25  # of what is free: the most that weights out of NF4 may take
SCORES = 8  # copies in float32 of the scores of the whole vocabulary, while one token is chosen


def check_weights(config: "PreTrainedConfig", dtype: str, quantization: str | None) -> None:
    """Raise DoesNotFit where the weights exceed the memory that is free. A model that cannot be counted passes."""
    try:
        sizes = sizes_of(config)
    except UserError:
        return
    packed = sizes.linear_parameters if quantization == "nf4" else 0
    weights = packed * NF4_BITS / 8 + (sizes.parameters - packed) * BYTES[dtype]
    free, place = free_bytes()
    if weights > free:
        smaller = "" if quantization == "nf4" else ", --quantization nf4 takes a quarter"
        raise DoesNotFit(
            f"the weights take {weights / 1e9:.1f} GB of {place}, {free / 1e9:.1f} are free; close other "
            f"programs or use a smaller model{smaller}"
        )


def unpacked(network: Any) -> Any:
    """What `loading.load_model` gave; a network in NF4 on a processor with its weights unpacked once, where that leaves
    room for answers.

    bitsandbytes unpacks all of them for every token, which is half of a step's time; and outside training, on
    processors with bf16 instructions, with scales rounded to bf16, so that answers were another network's than trained.
    """
    if network.device.type != "cpu" or not getattr(network, "is_loaded_in_4bit", False):
        return network

    from bitsandbytes.nn import Linear4bit

    packed = [module for module in network.modules() if isinstance(module, Linear4bit)]
    weights = sum(layer.in_features * layer.out_features for layer in packed) * network.dtype.itemsize
    if weights > UNPACKED * free_bytes()[0]:
        return network
    return network.dequantize(dtype=network.dtype)


def free_bytes() -> tuple[int, str]:
    """Memory that is free now where the model is or goes, and its name: that of the GPU, or of the host without one."""
    import torch

    if torch.cuda.is_available():
        kept = torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
        return torch.cuda.mem_get_info()[0] + kept, "GPU memory"
    return host_memory()[1], "host memory"


def answer_bytes(config: "PreTrainedConfig", width: int, longest: int, new: int, ways: int) -> float:
    """Bytes of one answer of `new` tokens in the worst case: of `width` bytes a number, to a prompt of `longest` tokens
    that `ways` answers share.

    Keys and values, and one layer's again, which is copied when answers leave; the scores of the vocabulary; and while
    prompts are read a layer's activations, with the scores of eager attention in float32 and in `width`.
    """
    text = config.get_text_config()
    tokens, layers = longest + new, max(1, text.num_hidden_layers)
    kept = cache_bytes(config) * width / 2 * tokens * (1 + 1 / layers)
    inner = getattr(text, "intermediate_size", None) or 4 * text.hidden_size
    inner = max(inner) if isinstance(inner, list | tuple) else inner  # one for each layer
    reading = longest * (8 * text.hidden_size + 3 * inner) * width
    if attention_of(text) not in ("sdpa", "flash_attention_2"):
        reading += text.num_attention_heads * longest * longest * (4 + 2 * width)
    return kept + SCORES * 4 * text.vocab_size + reading / ways


def at_once(
    config: "PreTrainedConfig", precision: str, tokens: tuple[int, int], ways: int, asked: int, shard: Shard
) -> int:
    """How many answers are written at once: `asked`, or as many as fit beside the weights, said in a line.

    `tokens`: of the longest prompt and of an answer. Raises DoesNotFit where not one question's `ways` answers
    fit, or fewer than `asked` where other shares (on other machines) cut their batches alike.
    """
    if not hasattr(config.get_text_config(), "num_attention_heads"):  # a state of fixed size instead of a cache
        return asked
    longest, new = tokens
    each = answer_bytes(config, 4 if "float32" in precision else 2, longest, new, ways)
    free, place = free_bytes()
    sharing = int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if place == "host memory" else 1
    own = [USED * free / sharing // each if number == shard.number else 0.0 for number in range(shard.count)]
    fitting = int(min(shard.total(own)))  # the processes of a launch cut the same batches
    if asked <= fitting:
        return asked
    said = f"{longest + new} tokens and {each / 1e9:.2f} GB each at most, {free / 1e9:.1f} GB of {place} are free"
    said += f" and {USED:.0%} of them used"
    if fitting < ways:
        raise DoesNotFit(
            f"the answers to one question do not fit: {ways} of {said}; close other programs, or use a smaller "
            "--max_new_tokens or fewer --seeds"
        )
    if shard.shares > 1:
        raise DoesNotFit(f"batch_size {asked}: answers of {said}; give all shares --batch_size {fitting}")
    if shard.is_first:
        print(f"batch_size {fitting} instead of {asked}: answers of {said}")
    return fitting
