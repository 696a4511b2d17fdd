"""Arms of the chat page that servers answer: at an address, or llama.cpp in this process for a quantized export."""

import sys
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from medsft.arguments import GenerateArguments
from medsft.errors import UserError
from medsft.inference import generation, llama_cpp, served
from medsft.inference.sampling import Sampling
from medsft.models import loading
from medsft.models.model_checks import positions
from medsft.records import Turn
from medsft.study.names import BASELINE, trained_arms
from medsft.tokenization.answer_text import answer_text
from medsft.tokenization.chat_template import stop_ids
from medsft.tokenization.system_turns import SystemTurns

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SLOTS, CONTEXT = 2, 4096  # of llama.cpp in this process: dialogues at once, and tokens of each at most


class ServedArm(NamedTuple):
    """An arm and the servers that answer for it. `context`: tokens of a dialogue with its answer."""

    servers: served.Engine
    tokenizer: "PreTrainedTokenizerBase"
    context: int
    system: SystemTurns


def quantized(study: Path) -> list[str]:
    """The arms that GGUF exports of the study are, such as lora_q8."""
    kinds = llama_cpp.KINDS.items()
    return [
        f"{arm}_{short}"
        for arm in trained_arms(study)
        for short, kind in kinds
        if any((study / arm / "export" / f"gguf-{kind}").glob("*.gguf"))
    ]


def served_at(endpoints: Sequence[str], base_model: str, allow_remote: bool) -> dict[str, list[str]]:
    """The addresses at which each model is served, by the arm that it is: the untrained model is the baseline.

    One that does not answer is left out, with a word. Raises UserError where an address is wrong or none answers.
    """
    found: dict[str, list[str]] = {}
    silent: list[UserError] = []
    for address in endpoints:
        served.check_address(address, allow_remote)
        try:
            models = served.models(served.base_of(address))
        except UserError as error:
            silent.append(error)
            continue
        for model in models:
            found.setdefault(BASELINE if model == base_model else model, []).append(address)
    if silent and not found:
        raise silent[0]
    for why in silent:
        print(f"left out: {why}", file=sys.stderr, flush=True)
    return found


def connect(study: Path, arm: str, base_model: str, endpoints: Sequence[str], system: SystemTurns) -> ServedArm:
    """An arm at addresses that serve it. Raises UserError where they read a dialogue otherwise than the recipe."""
    args = GenerateArguments(str(study), arm, base_model)
    base, _, weights = generation.arm_base(args)
    tokenizer = loading.load_tokenizer(str(weights) if weights is not None else base)
    known = served.models(served.base_of(endpoints[0]))
    servers = served.connect(endpoints, arm if arm in known else base, tokenizer, 1)
    return ServedArm(servers, tokenizer, positions(loading.load_config(base)), system)


def load_quantized(study: Path, arm: str, system: SystemTurns) -> ServedArm:
    """A GGUF export of an arm, by llama.cpp in this process. Raises UserError where it is not installed."""
    args = GenerateArguments(str(study), arm, engine="gguf")
    file = llama_cpp.gguf_file(args)
    base, _, weights = generation.arm_base(args)
    tokenizer = loading.load_tokenizer(str(weights) if weights is not None else base)
    context = min(CONTEXT, positions(loading.load_config(base)))
    server = llama_cpp.load(file, SLOTS, context)
    served.check_tokens(server, tokenizer)
    return ServedArm(server, tokenizer, context, system)


def answer(
    arm: ServedArm, ids: list[int], messages: list[Turn], max_new_tokens: int, temperature: float, seed: int
) -> Generator[str, None, bool]:
    """Yield '' until the whole answer is there, and then the answer; returns whether it ended its turn.

    The dialogue is sent as token `ids` where the server takes them, else as `messages`. Raises UserError where no
    server answers.
    """
    stops, sampling = stop_ids(arm.tokenizer), Sampling(temperature, 1.0, seed) if temperature > 0 else None
    thread = ThreadPoolExecutor(1)
    if arm.servers.kind == served.MESSAGES:
        asked = thread.submit(
            served.complete_messages, arm.servers, [messages], arm.tokenizer, max_new_tokens, stops, sampling
        )
    else:
        asked = thread.submit(served.complete, arm.servers, [ids], max_new_tokens, stops, sampling)
    thread.shutdown(wait=False)
    while not asked.done():
        yield ""
    (new,) = asked.result()
    yield answer_text(arm.tokenizer, new)
    return bool(new) and new[-1] in stops


def check_some(arms: dict[str, list[str]], names: Sequence[str]) -> None:
    """Raise UserError where no server has one of these arms."""
    if arms and not {*arms} & {*names}:
        raise UserError(
            f"--endpoint: it serves {', '.join(arms)}, and none is an arm of this study ({', '.join(names)}); start it "
            "with the arm's name (vllm serve --served-model-name lora, llama-server --alias lora)"
        )
