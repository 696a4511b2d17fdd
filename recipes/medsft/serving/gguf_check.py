"""Whether llama.cpp answers from a GGUF file as transformers does from the weights that it was made of.

Its chat template must give the same tokens, and its next-token distributions over the answers of three short dialogues
may differ by a bound for each format. The divergence is over the `LIKELIEST` tokens and the rest as one, which
llama.cpp returns; lumping the rest can only make it smaller, here by less than 1e-4.
"""

import math
from pathlib import Path
from typing import TYPE_CHECKING

from medsft.errors import UserError
from medsft.inference import llama_cpp, served
from medsft.serving.merge import PROBES
from medsft.tokenization.chat_template import PROBE, prompt_ids

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from medsft.records import Turn

LIKELIEST = 500
# Nats a token, about ten times what SmolLM2-135M shows (docs/serve_and_review.md); larger models lose less.
BOUNDS = {"f32": 1e-3, "f16": 1e-3, "bf16": 0.01, "q8_0": 0.02, "q4_k_m": 0.3}


def check(file: Path, kind: str, network: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase") -> dict[str, object]:
    """What is recorded of the check. Raises UserError where the file does not answer as `network`, its weights."""
    answers = [forced(tokenizer, asked, answer) for asked, answer in PROBES]
    server = llama_cpp.load(file, 1, max(map(len, (ids for ids, _ in answers))) + 1)
    check_template(server, tokenizer)
    values = [value for ids, start in answers for value in divergences(server, network, ids, start)]
    found, bound = sum(values) / len(values), BOUNDS[kind]
    if not found <= bound:
        raise UserError(
            f"the {kind} file answers differently: mean divergence {found:.2g} nats per token, allowed {bound:g}; "
            "try --quantize f16, and report this"
        )
    return {"divergence_of_the_file": found, "bound": bound, "read_by": f"llama.cpp (xllamacpp {server.version})"}


def check_template(server: served.Engine, tokenizer: "PreTrainedTokenizerBase") -> None:
    """Raise UserError where llama.cpp's rendering of the chat template gives other tokens than the recipe's prompts."""
    for turns in (PROBE[:1], PROBE[:3]):
        ours, theirs = prompt_ids(tokenizer, turns), chat_ids(server, turns)
        if ours != theirs:
            raise UserError(
                f"llama.cpp renders the chat template as {len(theirs)} tokens, this recipe as {len(ours)}; "
                "serve the arm with --format vllm"
            )


def chat_ids(server: served.Engine, messages: "list[Turn]") -> list[int]:
    """The tokens to which llama.cpp turns a chat: its rendering of the file's template, tokenized."""
    text = served.post(server, "/apply-template", {"messages": messages})["prompt"]
    return [*served.post(server, "/tokenize", {"content": text, "add_special": True, "parse_special": True})["tokens"]]


def forced(tokenizer: "PreTrainedTokenizerBase", asked: str, answer: str) -> tuple[list[int], int]:
    """A dialogue's tokens, and where its answer begins."""
    ids = prompt_ids(tokenizer, [{"role": "user", "content": asked}])
    return [*ids, *tokenizer(answer, add_special_tokens=False)["input_ids"]], len(ids)


def divergences(server: served.Engine, network: "PreTrainedModel", ids: list[int], start: int) -> list[float]:
    """Kullback-Leibler divergence in nats of llama.cpp's next-token distribution from the network's, from the position
    `start` of the dialogue on."""
    import torch

    with torch.inference_mode():
        logits = network(torch.tensor([ids], device=network.device)).logits[0].double().cpu()
    return [
        divergence(logits[at - 1].log_softmax(-1), next_tokens(server, ids[:at])) for at in range(start, len(ids) + 1)
    ]


def next_tokens(server: served.Engine, ids: list[int]) -> dict[int, float]:
    """The natural logarithms of the probabilities of the likeliest next tokens."""
    body = {"prompt": ids, "n_predict": 1, "n_probs": LIKELIEST, "samplers": ["top_k"], "top_k": 1}
    found = served.post(server, "/completion", body)["completion_probabilities"][0]["top_logprobs"]
    return {token["id"]: token["logprob"] for token in found}


def divergence(p: "torch.Tensor", q: dict[int, float]) -> float:
    """Of `q`, the logarithms of some tokens' probabilities, from `p`, those of all: the other tokens count as one."""
    shared = [(float(p[token]), log) for token, log in q.items()]
    rest_p, rest_q = (max(1 - sum(math.exp(pair[side]) for pair in shared), 1e-9) for side in (0, 1))
    return sum(math.exp(a) * (a - b) for a, b in shared) + rest_p * math.log(rest_p / rest_q)
