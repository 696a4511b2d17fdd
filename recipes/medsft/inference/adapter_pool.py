"""Several arms in memory at once, for answers side by side, token by token.

All LoRA arms and the baseline share one copy of the base model and switch its adapters. Arms trained on 4-bit weights
share a 4-bit base. A full arm is a model of its own. Arms that a server answers stand beside them (served_arms).
"""

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, cast

from medsft import manifest
from medsft.arguments import GenerateArguments
from medsft.errors import UserError
from medsft.files import read_json
from medsft.inference import answer_memory, generation, llama_cpp, served_arms
from medsft.inference.served_arms import ServedArm
from medsft.models import loading
from medsft.models.model_checks import positions
from medsft.records import Turn
from medsft.study import names
from medsft.tokenization.answer_text import answer_text
from medsft.tokenization.chat_template import prompt_ids, stop_ids
from medsft.tokenization.system_turns import NO_SYSTEM, SystemTurns, of_report, placed

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

IDLE = 0.05  # seconds between two looks at answers that servers are still writing
Base = tuple[str, str | None, bool]  # base model, quantization, and whether its scales are quantized too


class LoadedArm(NamedTuple):
    """An arm and its network, which may be shared: within `with arm.active():` it is this arm's.

    `system`: the system turns of the study's rows; with their common text the arm is asked as it was trained.
    """

    network: "PreTrainedModel | PeftModel"
    tokenizer: "PreTrainedTokenizerBase"
    active: Callable[[], AbstractContextManager[None]]
    system: SystemTurns = NO_SYSTEM


def arm_names(study_dir: Path, asked: str = "") -> list[str]:
    """The baseline, every trained arm of a study and, where llama.cpp is installed, its quantized exports; or those
    asked for. Raises UserError for an unknown one.
    """
    trained, quantized = names.trained_arms(study_dir), served_arms.quantized(study_dir)
    known = [names.BASELINE, *trained, *quantized]
    shown = known if llama_cpp.available() else [names.BASELINE, *trained]
    chosen = [name.strip() for name in asked.split(",") if name.strip()] or shown
    unknown = [name for name in chosen if name not in known]
    if unknown:
        raise UserError(f"--arms {unknown[0]}: no such arm in {study_dir}; there are {', '.join(known)}")
    if not trained:
        raise UserError(f"{study_dir}: no trained arm; train one first (make demo, or recipes/sft_lora.py)")
    return chosen


def load(study_dir: Path, chosen: list[str], base_model: str, dtype: str) -> dict[str, LoadedArm]:
    """Load the arms; arms of the same base and storage share one network. `base_model` is the baseline's."""
    shared: dict[Base, PeftModel] = {}
    arms: dict[str, LoadedArm] = {}
    for name in sorted(chosen, key=lambda name: name == "baseline"):  # last, to use a base that is loaded by then
        args = GenerateArguments(str(study_dir), name, base_model, dtype, engine="transformers")
        base, quantization, weights = generation.arm_base(args)
        if weights is not None and weights.name == "adapter":
            key = (base, quantization, quantization is not None and generation.double_quant(args, weights))
            network = _adapted(shared, key, name, args, weights)
            arms[name] = LoadedArm(network, loading.load_tokenizer(str(weights)), _switch(network, name))
        elif weights is None and (base, None, False) in shared:
            network = shared[base, None, False]
            arms[name] = LoadedArm(network, loading.load_tokenizer(base), network.disable_adapter)
        else:
            answerer = generation.load(args)
            arms[name] = LoadedArm(cast("PreTrainedModel", answerer.network), answerer.tokenizer, nullcontext)
    system = system_of(study_dir)
    return {name: arms[name]._replace(system=system) for name in chosen}


def system_of(study_dir: Path) -> SystemTurns:
    """The system turns of a study's prepared rows."""
    prepared = study_dir / "data" / "data_report.json"
    return of_report(read_json(prepared) if prepared.is_file() else None)


def _adapted(
    shared: "dict[Base, PeftModel]", key: Base, name: str, args: GenerateArguments, weights: Path
) -> "PeftModel":
    """The shared network of `key` with one more adapter, named after its arm."""
    import torch
    from peft import PeftModel

    manifest.verify(weights)
    dtype = generation.choose_dtype(args.dtype)
    if key in shared:
        shared[key].load_adapter(str(weights), adapter_name=name, autocast_adapter_dtype=False)
    else:
        config = loading.nf4(dtype, key[2]) if key[1] == "nf4" else None
        network = answer_memory.unpacked(loading.load_model(key[0], dtype, config))
        if torch.cuda.is_available() and key[1] is None:
            network = network.to("cuda")
        shared[key] = PeftModel.from_pretrained(network, str(weights), adapter_name=name, autocast_adapter_dtype=False)
    shared[key].to(getattr(torch, dtype)).eval()
    return shared[key]


def _switch(network: "PeftModel", name: str) -> Callable[[], AbstractContextManager[None]]:
    def activate() -> AbstractContextManager[None]:
        if network.active_adapter != name:
            network.set_adapter(name)
        return nullcontext()

    return activate


def asked_turns(arm: LoadedArm | ServedArm, messages: Sequence[Turn]) -> list[Turn]:
    """A dialogue after the system text of the study's rows."""
    return [*placed(arm.system["text"], messages, arm.system["how"])]


def asked_ids(arm: LoadedArm | ServedArm, messages: Sequence[Turn]) -> list[int]:
    """Its prompt."""
    return prompt_ids(arm.tokenizer, asked_turns(arm, messages))


def has_room(arm: LoadedArm | ServedArm, messages: Sequence[Turn], max_new_tokens: int) -> bool:
    """Whether the dialogue and an answer fit the model's context."""
    context = arm.context if isinstance(arm, ServedArm) else positions(arm.network.config)
    return len(asked_ids(arm, messages)) + max_new_tokens <= context


def answer(
    arm: LoadedArm | ServedArm, messages: Sequence[Turn], max_new_tokens: int, temperature: float, seed: int
) -> Generator[str, None, bool]:
    """Yield the answer so far, token by token, or whole where a server writes it; greedy if `temperature` is 0.

    Returns whether the model ended its turn. Between two tokens only this answer's own cache is kept, so several
    answers can alternate. Raises UserError where no server answers.
    """
    ids = asked_ids(arm, messages)
    if isinstance(arm, ServedArm):
        turns = asked_turns(arm, messages)
        return (yield from served_arms.answer(arm, ids, turns, max_new_tokens, temperature, seed))

    import torch
    from transformers import DynamicCache

    draw = torch.Generator().manual_seed(seed)
    stops, cache, produced = stop_ids(arm.tokenizer), DynamicCache(), list[int]()
    for _ in range(max_new_tokens):
        with torch.inference_mode(), arm.active():
            inputs = torch.tensor([ids], device=arm.network.device)
            logits = arm.network(input_ids=inputs, past_key_values=cache, use_cache=True).logits[0, -1].float().cpu()
        if temperature > 0:
            ids = torch.multinomial((logits / temperature).softmax(-1), 1, generator=draw).tolist()
        else:
            ids = [int(logits.argmax())]
        if ids[0] in stops:
            return True
        produced += ids
        yield answer_text(arm.tokenizer, produced)
    return False


def side_by_side(answers: dict[str, Iterator[str]]) -> Iterator[dict[str, str]]:
    """Advance all answers in turn by one token and yield their texts after every round that changed one."""
    texts, unfinished = dict.fromkeys(answers, ""), dict(answers)
    while unfinished:
        before = dict(texts), len(unfinished)
        for name in list(unfinished):
            text = next(unfinished[name], None)
            if text is None:
                del unfinished[name]
            else:
                texts[name] = text
        if (texts, len(unfinished)) != before:
            yield dict(texts)
        else:
            time.sleep(IDLE)
