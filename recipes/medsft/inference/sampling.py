"""How tokens are drawn when decoding is not plainly greedy, and what that is called by each server."""

import json
import zlib
from collections.abc import Sequence
from typing import NamedTuple

from medsft.records import Json

PENALISED = "penalised"  # answers decoded greedily with a penalty on repetition, and the name of their file
WHOLE = 1 << 20  # tokens that llama.cpp looks back: more than any context has


class Sampling(NamedTuple):
    """How tokens are drawn when decoding is not plainly greedy; at temperature 0 the likeliest is taken.

    `repetition_penalty` divides the positive scores of tokens that were there before, the prompt's too, and multiplies
    the negative ones (Keskar et al. 2019).
    """

    temperature: float
    top_p: float
    seed: int
    repetition_penalty: float = 1.0

    def seed_of(self, asked: object) -> int:
        """A seed of its own for each question (text or token ids), whatever is asked beside it and by which process."""
        return zlib.crc32(json.dumps([self.seed, asked]).encode()) % 2**31


Ways = Sequence[Sampling | None]  # ways of decoding; None: greedily


def of_openai(sampling: Sampling | None, asked: object) -> Json:
    """The options of one question, with a seed of its own; the penalty, which OpenAI lacks, where it is wanted."""
    options = sampling._replace(seed=sampling.seed_of(asked))._asdict() if sampling else {"temperature": 0.0}
    return {name: value for name, value in options.items() if (name, value) != ("repetition_penalty", 1.0)}


def of_vllm(sampling: Sampling | None, asked: object) -> Json:
    """The same for vLLM, whose server takes what is not said from the model's generation_config.json."""
    neutral = {"top_p": 1.0, "top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0}
    return neutral | {"presence_penalty": 0.0, "frequency_penalty": 0.0} | of_openai(sampling, asked)


def of_llama_cpp(sampling: Sampling | None, asked: object) -> Json:
    """The same for llama.cpp: the penalty over the whole context, then the likeliest token, or the temperature and then
    the nucleus, as transformers does."""
    if sampling is None:
        return {"samplers": ["top_k"], "top_k": 1}
    options: Json = {"seed": sampling.seed_of(asked), "temperature": sampling.temperature, "top_p": sampling.top_p}
    options |= {"repeat_penalty": sampling.repetition_penalty, "repeat_last_n": WHOLE}
    if sampling.temperature > 0:
        return options | {"samplers": ["penalties", "temperature", "top_p"]}
    return options | {"samplers": ["penalties", "top_k"], "top_k": 1}
