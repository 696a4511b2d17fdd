"""vLLM in place of transformers' generate, where it is installed and a GPU is there: continuous batching, paged cache.

For unquantized arms; NF4 arms are answered by transformers, which is what trained them. Not part of any extra of this
project: `pip install vllm` brings its own torch.
"""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from medsft.errors import UserError
from medsft.files import read_json
from medsft.models.loading import resolve

BATCHES_AT_ONCE = 16  # vLLM fills its own batches; what is handed over at once is what a crash can lose


def available() -> bool:
    if find_spec("vllm") is None:
        return False

    import torch

    return torch.cuda.is_available()


def load(base: str, weights: Path | None, dtype: str) -> tuple[Any, Any]:
    """The engine and, for an adapter, the request that applies it."""
    from vllm import LLM
    from vllm.lora.request import LoRARequest

    adapter = weights is not None and weights.name == "adapter"
    source = resolve(base) if adapter or weights is None else str(weights)
    lora = {"enable_lora": True, "max_lora_rank": _rank(weights / "adapter_config.json")} if adapter and weights else {}
    engine = LLM(model=source, dtype=dtype, trust_remote_code=False, load_format="safetensors", seed=0, **lora)
    return engine, LoRARequest("arm", 1, str(weights.resolve())) if adapter and weights else None


def complete(
    engine: tuple[Any, Any], prompts: Sequence[list[int]], max_new_tokens: int, stops: set[int], sampling: Any
) -> list[list[int]]:
    """New tokens of each prompt with the one that ended the turn, as transformers' `complete` gives them."""
    from vllm import SamplingParams

    drawn: dict[str, Any] = {"temperature": 0.0}
    if sampling is not None:
        drawn = {"temperature": sampling.temperature, "top_p": sampling.top_p, "seed": sampling.seed}
    parameters = SamplingParams(max_tokens=max_new_tokens, stop_token_ids=sorted(stops), **drawn)
    outputs = engine[0].generate(
        [{"prompt_token_ids": ids} for ids in prompts], parameters, lora_request=engine[1], use_tqdm=False
    )
    return [[*output.outputs[0].token_ids] for output in outputs]


def nll(engine: tuple[Any, Any], dialogues: Sequence[Any]) -> list[float]:
    """Summed negative log-likelihood in nats of each dialogue's scored positions (see likelihood.batch_nll)."""
    from vllm import SamplingParams

    parameters = SamplingParams(max_tokens=1, temperature=0.0, prompt_logprobs=0)
    prompts = [{"prompt_token_ids": dialogue.ids} for dialogue in dialogues]
    outputs = engine[0].generate(prompts, parameters, lora_request=engine[1], use_tqdm=False)
    return [
        -sum(output.prompt_logprobs[at][dialogue.ids[at]].logprob for at in dialogue.positions)
        for output, dialogue in zip(outputs, dialogues, strict=True)
    ]


def _rank(config: Path) -> int:
    """The smallest rank vLLM has kernels for that holds the adapter's."""
    rank = read_json(config)["r"]
    known = (8, 16, 32, 64, 128, 256, 320, 512)
    if rank > known[-1]:
        raise UserError(f"{config}: rank {rank}: vLLM has kernels up to {known[-1]}; use --engine transformers")
    return next(size for size in known if size >= rank)
