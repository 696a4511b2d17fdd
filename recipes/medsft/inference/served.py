"""Answers from servers with OpenAI's interface: llama.cpp and vLLM by token ids, any other one by messages.

Token ids leave nothing to the server's chat template or to its reading of control tokens. Before messages are sent,
the number of tokens that the server counts in a dialogue is compared with the recipe's. Several addresses serve the
same model and share the rows: each row goes to the one with the fewest under way, and one that stops answering is
dropped with a word and leaves its rows to the others.
"""

import sys
import threading
import urllib.error
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlparse

from medsft.errors import UserError
from medsft.inference.http_json import LOOPBACK, refusal, request
from medsft.inference.sampling import Sampling, of_llama_cpp, of_openai, of_vllm
from medsft.inference.vllm_backend import Dialogue
from medsft.records import Json, Turn
from medsft.tokenization.chat_template import PROBE, prompt_ids
from medsft.tokenization.control_tokens import as_text

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

FAULTS = 3  # replies of a status from 500, after which a server is dropped
LLAMA_CPP, VLLM, MESSAGES = "llama.cpp", "vllm", "messages"
T = TypeVar("T")


@dataclass(frozen=True)
class Engine:
    """Servers of one model: base `addresses` without /v1, how they are asked (`kind`), requests `at_once` to each.

    `held` is what must live as long: a server inside this process. `under_way` and `faults` count requests and replies
    of a status from 500 by address; `dropped` are addresses that stopped answering.
    """

    addresses: tuple[str, ...]
    model: str
    kind: str
    version: str
    at_once: int
    held: object = None
    under_way: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    dropped: set[str] = field(default_factory=set)
    lock: threading.Lock = field(default_factory=threading.Lock)


def check_address(address: str, allow_remote: bool) -> None:
    """Raise UserError for what is no address, or would take patients' words off this machine."""
    parsed = urlparse(address)
    if parsed.scheme not in ("http", "https") or not parsed.hostname:
        raise UserError(f"endpoint '{address}': give an address such as http://127.0.0.1:8000/v1")
    if parsed.hostname not in LOOPBACK and not allow_remote:
        raise UserError(f"endpoint {parsed.hostname} is not this machine; --allow_remote true sends dialogues there")


def connect(endpoints: Sequence[str], model: str, tokenizer: "PreTrainedTokenizerBase", at_once: int) -> Engine:
    """The servers at `endpoints`, asked for `model`; one that does not answer is left out, with a word.

    Raises UserError where none answers, or they are of several kinds, do not serve the model, or read a dialogue as
    other tokens than this recipe.
    """
    kinds: dict[str, tuple[str, str]] = {}
    for address in map(base_of, endpoints):
        try:
            kinds[address] = kind_of(address)
        except OSError as error:
            print(f"endpoint {address}: no answer ({error}); it is left out", file=sys.stderr, flush=True)
    if not kinds:
        raise UserError(f"endpoint {', '.join(endpoints)}: no answer; is the server running? start it, then try again")
    if len(found := {*kinds.values()}) > 1:
        raise UserError(f"endpoint: the servers differ ({', '.join(' '.join(each) for each in sorted(found))})")
    engine = Engine((*kinds,), model, *found.pop(), at_once)
    for address in engine.addresses:
        known = models(address)
        if engine.kind != LLAMA_CPP and model not in known:  # llama.cpp serves one model and ignores its name
            raise UserError(f"endpoint {address}: no model '{model}'; it serves {', '.join(known)}: --served_model")
        check_tokens(replace(engine, addresses=(address,)), tokenizer)
    return engine


def base_of(endpoint: str) -> str:
    """The address without its /v1."""
    return endpoint.rstrip("/").removesuffix("/v1")


def models(address: str) -> list[str]:
    """The names of what a server serves. Raises UserError where it does not list them."""
    try:
        return [str(each["id"]) for each in request(f"{address}/v1/models").get("data", [])]
    except (OSError, ValueError) as error:
        raise UserError(f"endpoint {address}: does not list its models ({error}); is it OpenAI-compatible?") from error


def kind_of(address: str) -> tuple[str, str]:
    """How a server is asked, and its version where it says so. Raises OSError where it does not answer."""
    for path, kind, key in (("/props", LLAMA_CPP, "build_info"), ("/version", VLLM, "version")):
        try:
            return kind, str(request(address + path)[key])
        except (urllib.error.HTTPError, KeyError, ValueError, TypeError):
            continue
    return MESSAGES, ""


def check_tokens(engine: Engine, tokenizer: "PreTrainedTokenizerBase") -> None:
    """Raise UserError where the server's tokens of a dialogue are not the recipe's.

    By its own tokenizer where it takes token ids, and by its count of a whole chat prompt where it takes messages.
    """
    for turns in (PROBE[:1], PROBE[:3]):
        ours = prompt_ids(tokenizer, turns)
        if engine.kind == MESSAGES:
            reply = post(engine, "/v1/chat/completions", {"model": engine.model, "messages": turns, "max_tokens": 1})
            counted = reply.get("usage", {}).get("prompt_tokens")
            if counted != len(ours):
                raise UserError(
                    f"endpoint {engine.addresses[0]}: reads a dialogue of {len(ours)} tokens as {counted}, so its chat "
                    "template or system text is another one; serve an export of this arm (recipes/export.py)"
                )
        elif (theirs := tokenize(engine, str(tokenizer.decode(ours)))) != ours:
            at = next((i for i, pair in enumerate(zip(ours, theirs, strict=False)) if pair[0] != pair[1]), len(theirs))
            raise UserError(
                f"endpoint {engine.addresses[0]}: token {at + 1} of a dialogue differs from the recipe's, so it serves "
                "another model; serve an export of this arm (recipes/export.py)"
            )


def tokenize(engine: Engine, text: str, special: bool = True) -> list[int]:
    """The server's token ids of a text; control tokens in it are read as such where `special` (llama.cpp only)."""
    own = {"content": text, "parse_special": special, "add_special": False}
    other = {"model": engine.model, "prompt": text, "add_special_tokens": False}
    return [*post(engine, "/tokenize", own if engine.kind == LLAMA_CPP else other)["tokens"]]


def complete(
    engine: Engine, prompts: Sequence[list[int]], max_new_tokens: int, stops: set[int], sampling: Sampling | None
) -> list[list[int]]:
    """New tokens of each prompt, up to and including the first token that ends the turn."""

    def one(at: int) -> list[int]:
        if engine.kind == LLAMA_CPP:
            body = {"prompt": prompts[at], "n_predict": max_new_tokens, "return_tokens": True, "cache_prompt": False}
            reply = post(engine, "/completion", body | of_llama_cpp(sampling, prompts[at]))
            ids, ended = reply["tokens"], reply["stop_type"] == "eos"
        else:
            body = {
                "model": engine.model,
                "prompt": prompts[at],
                "max_tokens": max_new_tokens,
                "return_token_ids": True,
            }
            body |= {"stop_token_ids": sorted(stops), **of_vllm(sampling, prompts[at])}
            choice = post(engine, "/v1/completions", body)["choices"][0]
            ids, ended = choice["token_ids"], choice["finish_reason"] == "stop"
        return _ended(ids, ended, stops)

    return _side_by_side(engine, one, len(prompts))


def complete_messages(
    engine: Engine,
    dialogues: Sequence[list[Turn]],
    tokenizer: "PreTrainedTokenizerBase",
    max_new_tokens: int,
    stops: set[int],
    sampling: Sampling | None,
) -> list[list[int]]:
    """The same by messages, whose answers come as text: its tokens, and an end of turn where the server stopped."""

    def one(at: int) -> list[int]:
        body: Json = {
            "model": engine.model,
            "messages": as_text(tokenizer, dialogues[at]),
            "max_tokens": max_new_tokens,
        }
        choice = post(engine, "/v1/chat/completions", body | of_openai(sampling, dialogues[at]))["choices"][0]
        ids = tokenizer(choice["message"]["content"] or "", add_special_tokens=False)["input_ids"]
        return _ended([*ids], choice["finish_reason"] == "stop", stops)

    return _side_by_side(engine, one, len(dialogues))


def nll(engine: Engine, dialogues: Sequence[Dialogue]) -> list[float]:
    """Summed negative log-likelihood in nats of each dialogue's scored positions; vLLM's servers only.

    One by one: several at once end a server of vLLM 0.32 that runs on a processor with an adapter.
    """

    def one(at: int) -> float:
        ids = dialogues[at].ids
        body = {"model": engine.model, "prompt": ids, "max_tokens": 1, "temperature": 0.0, "prompt_logprobs": 0}
        found = post(engine, "/v1/completions", body)["choices"][0]["prompt_logprobs"]
        return -sum(float(found[position][str(ids[position])]["logprob"]) for position in dialogues[at].positions)

    return [one(at) for at in range(len(dialogues))]


def _ended(ids: list[int], ended: bool, stops: set[int]) -> list[int]:
    """Up to the first end of turn, which some servers leave out of what they return."""
    end = next((at for at, token in enumerate(ids) if token in stops), None)
    if end is not None:
        return [*ids[: end + 1]]
    return [*ids, min(stops)] if ended else [*ids]


def _side_by_side(engine: Engine, ask: Callable[[int], T], count: int) -> list[T]:
    def one(at: int) -> T:
        try:
            return ask(at)
        except (KeyError, IndexError, TypeError) as error:
            raise UserError(f"endpoint {engine.addresses}: no reply of OpenAI's form ({error})") from error

    with ThreadPoolExecutor(engine.at_once * len(engine.addresses)) as pool:
        return [*pool.map(one, range(count))]


def post(engine: Engine, path: str, body: Json) -> Json:
    """A reply from the server with the fewest requests under way; from another one where that does not answer.

    Raises UserError where a server refuses the request, or none answers.
    """
    reasons: dict[str, Exception | str] = {}
    while (address := _least_busy(engine, reasons)) is not None:
        try:
            with _counted(engine, address):
                return request(address + path, body)
        except urllib.error.HTTPError as error:
            reasons[address] = f"status {error.code}: {refusal(error)}"
            if error.code < 500:
                raise UserError(f"{address}{path}: refused: {reasons[address]}") from error
            engine.faults[address] += 1
            if engine.faults[address] >= FAULTS:
                _drop(engine, address, reasons[address])
        except (OSError, ValueError) as error:
            reasons[address] = error
            _drop(engine, address, error)
    last = next(reversed(reasons.items()), (engine.addresses[0], "all were dropped before"))
    raise UserError(
        f"{last[0]}{path}: no answer ({last[1]}), and no other server is left; start it again and repeat this: what is "
        "answered is kept"
    )


def _least_busy(engine: Engine, tried: dict[str, Exception | str]) -> str | None:
    with engine.lock:
        left = [address for address in engine.addresses if address not in engine.dropped and address not in tried]
        return min(left, key=lambda address: engine.under_way[address], default=None)


@contextmanager
def _counted(engine: Engine, address: str) -> Iterator[None]:
    with engine.lock:
        engine.under_way[address] += 1
    try:
        yield
    finally:
        with engine.lock:
            engine.under_way[address] -= 1


def _drop(engine: Engine, address: str, reason: Exception | str) -> None:
    """Ask this server no more, while there are others; the last one may come back."""
    with engine.lock:
        others = {*engine.addresses} - engine.dropped - {address}
        if not others or address in engine.dropped:
            return
        engine.dropped.add(address)
    word = f"dropped, its rows go to the other {len(others)}"
    print(f"endpoint {address}: no answer ({reason}); {word}", file=sys.stderr, flush=True)
