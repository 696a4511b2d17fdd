"""Answers from servers with OpenAI's interface: llama.cpp and vLLM by token ids, any other one by messages.

Token ids leave nothing to the server's chat template or to its reading of control tokens. Before messages are sent,
the number of tokens that the server counts in a dialogue is compared with the recipe's. Several addresses serve the
same model and share the rows; one that stops answering leaves its rows to the others.
"""

import json
import os
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple, TypeVar
from urllib.parse import urlparse

from medsft.errors import UserError
from medsft.inference.vllm_backend import Dialogue, Sampling
from medsft.records import Json, Turn
from medsft.tokenization.chat_template import PROBE, prompt_ids
from medsft.tokenization.control_tokens import as_text

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

WHOLE = 1 << 20  # tokens that llama.cpp looks back: more than any context has
LOOPBACK = ("127.0.0.1", "localhost", "::1")
KEY = "MEDSFT_ENDPOINT_KEY"  # environment variable with the servers' key, where they want one
PATIENCE = 3600  # seconds for one answer, which may wait behind many others
LLAMA_CPP, VLLM, MESSAGES = "llama.cpp", "vllm", "messages"
T = TypeVar("T")


class Engine(NamedTuple):
    """Servers of one model: base `addresses` without /v1, how they are asked (`kind`), requests `at_once` to each.

    `held` is what must live as long: a server inside this process.
    """

    addresses: tuple[str, ...]
    model: str
    kind: str
    version: str
    at_once: int
    held: object = None


def check_address(address: str, allow_remote: bool) -> None:
    """Raise UserError for what is no address, or would take patients' words off this machine."""
    parsed = urlparse(address)
    if parsed.scheme not in ("http", "https") or not parsed.hostname:
        raise UserError(f"endpoint '{address}': give an address such as http://127.0.0.1:8000/v1")
    if parsed.hostname not in LOOPBACK and not allow_remote:
        raise UserError(f"endpoint {parsed.hostname} is not this machine; --allow_remote true sends dialogues there")


def connect(endpoints: Sequence[str], model: str, tokenizer: "PreTrainedTokenizerBase", at_once: int) -> Engine:
    """The servers at `endpoints`, asked for `model`. Raises UserError where they are not there, are of several kinds,
    do not serve the model, or read a dialogue as other tokens than this recipe."""
    addresses = tuple(endpoint.rstrip("/").removesuffix("/v1") for endpoint in endpoints)
    found = {_kind(address) for address in addresses}
    if len(found) > 1:
        raise UserError(f"endpoint: the servers differ ({', '.join(' '.join(each) for each in sorted(found))})")
    kind, version = found.pop()
    engine = Engine(addresses, model, kind, version, at_once)
    for address in addresses:
        try:
            served = [str(each["id"]) for each in _request(f"{address}/v1/models").get("data", [])]
        except (OSError, ValueError) as error:
            raise UserError(
                f"endpoint {address}: does not list its models ({error}); is it OpenAI-compatible?"
            ) from error
        if kind != LLAMA_CPP and model not in served:  # llama.cpp serves one model and ignores its name
            raise UserError(f"endpoint {address}: no model '{model}'; it serves {', '.join(served)}: --served_model")
        check_tokens(engine._replace(addresses=(address,)), tokenizer)
    return engine


def _kind(address: str) -> tuple[str, str]:
    """How a server is asked, and its version where it says so."""
    for path, kind, key in (("/props", LLAMA_CPP, "build_info"), ("/version", VLLM, "version")):
        try:
            return kind, str(_request(address + path)[key])
        except (urllib.error.HTTPError, KeyError, ValueError, TypeError):
            continue
        except OSError as error:
            raise UserError(f"endpoint {address}: no answer ({error}); is the server running?") from error
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
            reply = post(engine, "/completion", body | _of_llama_cpp(sampling, at), at)
            ids, ended = reply["tokens"], reply["stop_type"] == "eos"
        else:
            body = {
                "model": engine.model,
                "prompt": prompts[at],
                "max_tokens": max_new_tokens,
                "return_token_ids": True,
            }
            body |= {"stop_token_ids": sorted(stops), **_of_vllm(sampling, at)}
            choice = post(engine, "/v1/completions", body, at)["choices"][0]
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
        choice = post(engine, "/v1/chat/completions", body | _of_openai(sampling, at), at)["choices"][0]
        ids = tokenizer(choice["message"]["content"] or "", add_special_tokens=False)["input_ids"]
        return _ended([*ids], choice["finish_reason"] == "stop", stops)

    return _side_by_side(engine, one, len(dialogues))


def _of_openai(sampling: Sampling | None, at: int) -> Json:
    """The options of row `at`, each with a seed of its own; the penalty, which OpenAI lacks, where it is asked for."""
    if sampling is None:
        return {"temperature": 0.0}
    options: Json = {"temperature": sampling.temperature, "top_p": sampling.top_p, "seed": sampling.seed_of(at)}
    penalty = sampling.repetition_penalty
    return options if penalty == 1.0 else options | {"repetition_penalty": penalty}


def _of_vllm(sampling: Sampling | None, at: int) -> Json:
    """The same for vLLM, whose server takes what is not said from the model's generation_config.json."""
    neutral = {"top_p": 1.0, "top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0}
    return neutral | {"presence_penalty": 0.0, "frequency_penalty": 0.0} | _of_openai(sampling, at)


def _of_llama_cpp(sampling: Sampling | None, at: int) -> Json:
    """The same for llama.cpp: the penalty over the whole context, then the likeliest token, or the temperature and then
    the nucleus, as transformers does."""
    if sampling is None:
        return {"samplers": ["top_k"], "top_k": 1}
    options: Json = {"seed": sampling.seed_of(at), "temperature": sampling.temperature, "top_p": sampling.top_p}
    options |= {"repeat_penalty": sampling.repetition_penalty, "repeat_last_n": WHOLE}
    if sampling.temperature > 0:
        return options | {"samplers": ["penalties", "temperature", "top_p"]}
    return options | {"samplers": ["penalties", "top_k"], "top_k": 1}


def nll(engine: Engine, dialogues: Sequence[Dialogue]) -> list[float]:
    """Summed negative log-likelihood in nats of each dialogue's scored positions; vLLM's servers only.

    One by one: several at once end a server of vLLM 0.32 that runs on a processor with an adapter.
    """

    def one(at: int) -> float:
        ids = dialogues[at].ids
        body = {"model": engine.model, "prompt": ids, "max_tokens": 1, "temperature": 0.0, "prompt_logprobs": 0}
        found = post(engine, "/v1/completions", body, at)["choices"][0]["prompt_logprobs"]
        return -sum(float(found[position][str(ids[position])]["logprob"]) for position in dialogues[at].positions)

    return [one(at) for at in range(len(dialogues))]


def _ended(ids: list[int], ended: bool, stops: set[int]) -> list[int]:
    """Up to the first end of turn, which some servers leave out of what they return."""
    end = next((at for at, token in enumerate(ids) if token in stops), None)
    if end is not None:
        return [*ids[: end + 1]]
    return [*ids, min(stops)] if ended else [*ids]


def _side_by_side(engine: Engine, one: Callable[[int], T], count: int) -> list[T]:
    with ThreadPoolExecutor(engine.at_once * len(engine.addresses)) as pool:
        return [*pool.map(one, range(count))]


def post(engine: Engine, path: str, body: Json, first: int = 0) -> Json:
    """A reply from the servers, beginning with number `first`; another one where that does not answer."""
    reason: Exception | str = ""
    for turn in range(len(engine.addresses)):
        address = engine.addresses[(first + turn) % len(engine.addresses)]
        try:
            return _request(address + path, body)
        except urllib.error.HTTPError as error:
            reason = error.read().decode("utf-8", "replace")[:300]
            if error.code < 500:
                raise UserError(f"{address}{path}: refused: {reason}") from error
        except (OSError, ValueError) as error:
            reason = error
    raise UserError(f"{engine.addresses[0]}{path}: no answer ({reason}); start it again, the same command continues")


def _request(address: str, body: Json | None = None) -> Json:
    headers = {"Content-Type": "application/json"}
    if os.environ.get(KEY):
        headers["Authorization"] = f"Bearer {os.environ[KEY]}"
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(address, data, headers), timeout=PATIENCE) as response:
        reply: Json = json.load(response)
    return reply
