"""The arms of a study ready to talk, token by token, so that several can be heard side by side.

All LoRA arms and the baseline share one copy of the base and switch its adapters; an arm trained on 4-bit weights
shares a 4-bit base, and a full arm is a model of its own.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

from medsft import manifest
from medsft.arguments import GenerateArguments
from medsft.errors import UserError
from medsft.inference import generation
from medsft.models import loading
from medsft.records import Turn
from medsft.tokenization.chat_template import prompt_ids, stop_ids

Messages = list[Turn]


class Speaker(NamedTuple):
    """One arm: the network it speaks through, and what makes that network this arm for the length of a `with`."""

    network: Any
    tokenizer: Any
    active: Callable[[], AbstractContextManager[Any]]


def arm_names(study_dir: Path, asked: str = "") -> list[str]:
    """The baseline and every trained arm of a study, or those asked for. Raises UserError where one is not there."""
    trained = sorted(f.parent.name for f in study_dir.glob("*/train.json") if not f.parent.name.startswith("."))
    known = ["baseline", *trained]
    names = [name.strip() for name in asked.split(",") if name.strip()] or known
    unknown = [name for name in names if name not in known]
    if unknown:
        raise UserError(f"--arms {unknown[0]}: no such arm in {study_dir}; there are {', '.join(known)}")
    if not trained:
        raise UserError(f"{study_dir}: no trained arm; train one first (make demo, or recipes/sft_lora.py)")
    return names


def load(study_dir: Path, names: list[str], base_model: str, dtype: str) -> dict[str, Speaker]:
    """Load the arms; arms of the same base and storage share one network. `base_model` is the baseline's."""
    shared: dict[tuple[str, str | None], Any] = {}
    speakers: dict[str, Speaker] = {}
    for name in sorted(names, key=lambda name: name == "baseline"):  # last, when it is known whether its base is shared
        args = GenerateArguments(str(study_dir), name, base_model, dtype)
        base, quantization, weights = generation.arm_base(args)
        if weights is not None and weights.name == "adapter":
            network = _adapted(shared, (base, quantization), name, args, weights)
            speakers[name] = Speaker(network, loading.load_tokenizer(str(weights)), _switch(network, name))
        elif weights is None and (base, None) in shared:
            network = shared[base, None]
            speakers[name] = Speaker(network, loading.load_tokenizer(base), network.disable_adapter)
        else:
            answerer = generation.load(args)
            speakers[name] = Speaker(answerer.network, answerer.tokenizer, nullcontext)
    return {name: speakers[name] for name in names}


def _adapted(shared: dict[Any, Any], key: tuple[str, str | None], name: str, args: Any, weights: Path) -> Any:
    """The shared network of `key` with one more adapter, named after its arm."""
    import torch
    from peft import PeftModel

    manifest.verify(weights)

    dtype = generation._dtype(args.dtype)
    if key in shared:
        shared[key].load_adapter(str(weights), adapter_name=name, autocast_adapter_dtype=False)
    else:
        network = loading.load_model(key[0], dtype, loading.nf4(dtype) if key[1] == "nf4" else None)
        if torch.cuda.is_available() and key[1] is None:
            network = network.to("cuda")
        shared[key] = PeftModel.from_pretrained(network, str(weights), adapter_name=name, autocast_adapter_dtype=False)
    shared[key].to(getattr(torch, dtype)).eval()
    return shared[key]


def _switch(network: Any, name: str) -> Callable[[], AbstractContextManager[Any]]:
    def activate() -> AbstractContextManager[Any]:
        if network.active_adapter != name:
            network.set_adapter(name)
        return nullcontext()

    return activate


def has_room(speaker: Speaker, messages: Messages, max_new_tokens: int) -> bool:
    """Whether the dialogue and an answer fit the positions that the model knows."""
    return (
        len(prompt_ids(speaker.tokenizer, messages)) + max_new_tokens <= speaker.network.config.max_position_embeddings
    )


def answer(speaker: Speaker, messages: Messages, max_new_tokens: int, temperature: float, seed: int) -> Iterator[str]:
    """Yield the answer so far, token by token, until the model ends its turn. Greedy where `temperature` is 0.

    Nothing of the network is held between two tokens but this answer's own cache, so answers can take turns.
    """
    import torch
    from transformers import DynamicCache

    draw = torch.Generator().manual_seed(seed)
    stops, cache, produced = stop_ids(speaker.tokenizer), DynamicCache(), list[int]()
    ids = prompt_ids(speaker.tokenizer, messages)
    for _ in range(max_new_tokens):
        with torch.inference_mode(), speaker.active():
            inputs = torch.tensor([ids], device=speaker.network.device)
            logits = (
                speaker.network(input_ids=inputs, past_key_values=cache, use_cache=True).logits[0, -1].float().cpu()
            )
        if temperature > 0:
            ids = torch.multinomial((logits / temperature).softmax(-1), 1, generator=draw).tolist()
        else:
            ids = [int(logits.argmax())]
        if ids[0] in stops:
            break
        produced += ids
        yield speaker.tokenizer.decode(produced, skip_special_tokens=True)


def side_by_side(answers: dict[str, Iterator[str]]) -> Iterator[dict[str, str]]:
    """Let the answers take turns, one token each, and yield what all have said after every round."""
    said, speaking = dict.fromkeys(answers, ""), dict(answers)
    while speaking:
        for name in list(speaking):
            text = next(speaking[name], None)
            if text is None:
                del speaking[name]
            else:
                said[name] = text
        yield dict(said)
