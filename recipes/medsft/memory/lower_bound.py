"""What a strategy needs at the least, by arithmetic on the model's config.json: a hopeless run is refused in a second.

Weights, gradients and optimizer states only. What is above the bound is traced (`planner`), which takes up to a minute.
"""

import os
from pathlib import Path
from typing import NamedTuple

from medsft.config import is_on, peek
from medsft.errors import DoesNotFit
from medsft.files import read_json
from medsft.hardware.specs import Hardware, launched
from medsft.memory.strategies import ON_CPU, STRATEGIES, Strategy, applies
from medsft.models.parameter_counts import config_file
from medsft.records import Json

# three matrices in the MLP where others have two
GATED = ("llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text", "phi3", "olmo2", "granite")
# a layer of another kind than attention and MLP may be smaller, and is not counted: zamba2, recurrent_gemma, nemotron_h
HYBRID = ("layers_block_type", "block_types", "hybrid_layer_ids", "hybrid_override_pattern", "lru_width",
          "embedding_size")  # fmt: skip


class Least(NamedTuple):
    """Bytes that a strategy needs at the least: of each GPU, of each machine's memory, of its disk."""

    device: float
    host: float
    disk: float


def check(argv: list[str], here: Hardware) -> None:
    """Raise DoesNotFit where the run of these options cannot fit `here`, if the model's size is known."""
    name, on_cpu = str(peek("strategy", "", argv)), is_on("use_cpu", argv)
    values = _config(str(peek("model_name_or_path", "", argv)))
    here = launched(here, int(os.environ.get("WORLD_SIZE", "0")) or here.ranks)
    if on_cpu:
        here = here.without_gpus()
    if name not in STRATEGIES or not values:
        return
    n, wide = parameters(values), str(peek("dtype", "float32", argv)) == "float32"
    short = shortfall(_strategy(name, here), n, here, wide)
    if short:
        others = [s for s in STRATEGIES if applies(s, here.gpus, here.nodes)]
        may = [s for s in others if not shortfall(_strategy(s, here), n, here, False)]
        remedy = f"what may fit: {', '.join(may)} (make plan)" if may else "nothing fits here: rent or use a larger one"
        raise DoesNotFit(f"{name} of {n / 1e9:.1f} billion weights needs at least {short}; {remedy}")


def parameters(values: Json) -> int:
    """Weights of a decoder at the least: embeddings, attention and MLP of each layer, without norms and biases.

    `values`: of its config.json; 0, which bounds nothing, where that does not say or where layers are of other kinds.
    Experts count once: a dense part is always there.
    """
    text: Json = values.get("text_config") or values
    keys = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
    if any(not isinstance(text.get(key), int) for key in keys) or _has_other_layers(text):
        return 0
    vocabulary, hidden, layers, heads, inner = (text[key] for key in keys)
    per_head = text.get("head_dim") or hidden // heads
    grouped = text.get("num_key_value_heads") or heads
    attention = 2 * hidden * per_head * (heads + grouped)
    mlp = (3 if text.get("model_type", values.get("model_type")) in GATED else 2) * hidden * inner
    tied = text.get("tie_word_embeddings", values.get("tie_word_embeddings", True))
    return int(vocabulary * hidden * (1 if tied else 2) + layers * (attention + mlp))


def _has_other_layers(text: Json) -> bool:
    given = [key for key, value in text.items() if value is not None]
    others = set(text.get("layer_types") or []) - {"full_attention", "sliding_attention", "chunked_attention"}
    return bool(others) or any(key in HYBRID or key.startswith("mamba") for key in given)


def least(strategy: Strategy, n: int, here: Hardware, wide: bool = False) -> Least:
    """The bound for a model of `n` weights; `wide` ones take four bytes where the strategy does not say.

    Adapters: the base alone, in NF4 half a byte a weight. One process: weights, gradients and states. Engines keep
    float32 masters and moments (12 bytes), or all in bf16 (6), wherever the strategy puts them; weights are 2.
    """
    method = strategy.step.get("method", "full")
    if method != "full":
        size = n * (0.5 if method == "qlora" else 2.0)
    elif not strategy.engine:
        held = 8 if wide or strategy.step.get("dtype") == "float32" else 4  # with as wide gradients
        size = n * ((held / 2 if strategy.step.get("in_backward") else held) + strategy.states)
    else:
        states = (8 + 4 if strategy.engine == "fsdp2" else strategy.states) * n / here.nodes
        whole = strategy.engine == "zero2"
        weights = 2 * n * (1 if whole else 1 / here.ranks)
        device = (0 if strategy.parameters == "cpu" else weights) + (
            states * here.nodes / here.ranks if strategy.optimizer == "none" else 0
        )
        host = states if strategy.optimizer == "cpu" else 0
        if strategy.parameters == "cpu" and strategy.engine != "fsdp2":  # whose float32 masters are the parameters
            host += 2 * n / here.nodes
        return Least(device, host, strategy.swap * n) if here.gpus else Least(0, device + host, strategy.swap * n)
    return Least(size, 0, 0) if here.gpus else Least(0, size, 0)


def shortfall(strategy: Strategy, n: int, here: Hardware, wide: bool = False) -> str:
    """What this machine lacks of the bound, in words; '' if nothing."""
    bound = least(strategy, n, here, wide)
    places = ("GPU memory", "host memory", "disk")
    limits = (here.device_bytes, here.host_bytes, here.disk_bytes)
    return "; ".join(
        f"{need / 1e9:.0f} GB of {place} (there are {limit / 1e9:.0f})"
        for need, place, limit in zip(bound, places, limits, strict=True)
        if need > limit
    )


def _strategy(name: str, here: Hardware) -> Strategy:
    return STRATEGIES[name] if here.gpus else (STRATEGIES | ON_CPU)[name]


def _config(name: str) -> Json:
    """The model's config.json as a dictionary; {} where it is not on this machine."""
    folder = Path(name).expanduser() / "config.json"
    kept = config_file(name)
    return read_json(folder) if folder.is_file() else read_json(kept) if kept.is_file() else {}
