"""Models by one field: the embedded ones, a local folder, or a hub id. Safetensors only, no remote code."""

import math
import re
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medsft.errors import UserError
from medsft.files import fingerprint, read_json, sha256_file, write_text
from medsft.hub import cache_folder
from medsft.models.embedded import MINILM, SMOLLM2, minilm, smollm2
from medsft.patches.transformers import import_losses

if TYPE_CHECKING:
    import torch
    from transformers import BitsAndBytesConfig, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase


def resolve(name: str) -> str:
    """A local folder for an embedded model or a folder name; a hub id is returned as it is.

    Raises UserError for an unknown embedded name, a missing package or a failed checksum.
    """
    if name == SMOLLM2:
        return str(smollm2())
    if name == MINILM:
        return str(minilm())
    if name.startswith("embedded/"):
        raise UserError(f"model '{name}' is not embedded; there are {SMOLLM2} and {MINILM}")
    folder = Path(name).expanduser()
    if folder.is_dir():
        return str(folder)
    if not re.fullmatch(r"[\w.-]+(?:/[\w.-]+)?", name) or name.startswith("."):  # what a hub id may be
        raise UserError(f"model folder {name} does not exist")
    return name


def check_weights(path: str) -> None:
    """Raise UserError where `path`, as `resolve` returns it, is a folder whose weights are not safetensors in it."""
    folder = Path(path)
    if not folder.is_dir() or (folder / "adapter_config.json").is_file():
        return
    index = folder / "model.safetensors.index.json"
    parts = _weight_map(index) if index.is_file() else {"": "model.safetensors"}
    for file in sorted(set(parts.values())):
        if Path(file).name != file or not (folder / file).is_file():
            raise UserError(f"{folder}: {file} is not in this folder; weights are read from safetensors in it, only")


def _weight_map(index: Path) -> dict[str, str]:
    """{weight: file} of a model in several files, from its index."""
    read = read_json(index)
    parts = read.get("weight_map") if isinstance(read, dict) else None
    if not (isinstance(parts, dict) and parts and all(isinstance(file, str) for file in parts.values())):
        raise UserError(f"{index}: weight_map names no files; copy the model again")
    return parts


def load_config(name: str) -> "PreTrainedConfig":
    """The architecture of a model."""
    from transformers import AutoConfig

    config: PreTrainedConfig = _from_pretrained(AutoConfig, name)
    return config


def freeze_unread(network: "PreTrainedModel") -> None:
    """Freeze what words do not pass through, such as the vision tower of Gemma 3: it gets no gradient, for which data
    parallel training waits forever or fails at the second step.
    """
    read = [network.get_decoder(), network.get_input_embeddings(), network.get_output_embeddings()]
    kept = {id(parameter) for module in read if module is not None for parameter in module.parameters()}
    for parameter in network.parameters():
        if id(parameter) not in kept:
            parameter.requires_grad_(False)


def revision(name: str) -> str:
    """Identifies the weights of a model in records: the hub commit, or 16 hexadecimal digits over a local folder's."""
    folder = Path(resolve(name))
    if folder.is_dir():
        return fingerprint({file.name: _hash(file) for file in sorted(folder.glob("*.safetensors"))})
    from huggingface_hub import try_to_load_from_cache

    cached = try_to_load_from_cache(name, "config.json")  # CACHE/models--OWNER--NAME/snapshots/COMMIT/config.json
    return Path(cached).parent.name if isinstance(cached, str) else "unknown"


def _hash(file: Path) -> str:
    """SHA-256 of a file, kept for as long as its size and time of change stay: 14.5 GB take some ten seconds."""
    told = file.stat()
    kept = cache_folder() / "hashes" / fingerprint(str(file.resolve()), told.st_size, told.st_mtime_ns)
    if not kept.is_file():
        write_text(kept, sha256_file(file))
    return kept.read_text(encoding="utf-8")


def load_tokenizer(name: str) -> "PreTrainedTokenizerBase":
    """The tokenizer, with the 'default' of several chat templates, and the ids in `published_stops` with which the
    model's generation_config.json ends an answer.

    It pads with a token that does not end a turn: masking the padding would mask the end of turn.
    """
    from transformers import AutoTokenizer

    tokenizer: PreTrainedTokenizerBase = _from_pretrained(AutoTokenizer, name)
    templates = tokenizer.chat_template
    if isinstance(templates, dict):
        if "default" not in templates:
            raise UserError(
                f"model '{name}' has the chat templates {', '.join(templates)} and no 'default'; save the one you mean "
                f"as chat_template.jinja in a copy of the model's folder"
            )
        tokenizer.chat_template = templates["default"]
    tokenizer.published_stops = _published_stops(name)  # type: ignore[attr-defined]
    if tokenizer.pad_token_id in (None, tokenizer.eos_token_id) or tokenizer.pad_token_id >= _embeddings(name):
        usable = tokenizer.unk_token is not None and tokenizer.unk_token_id != tokenizer.eos_token_id
        tokenizer.pad_token = tokenizer.unk_token if usable else tokenizer.eos_token
    return tokenizer


def _published_stops(name: str) -> list[int]:
    """eos_token_id of generation_config.json, which is one id or several; [] where there is no such file."""
    from transformers import GenerationConfig

    try:
        ids = GenerationConfig.from_pretrained(resolve(name)).eos_token_id
    except (OSError, ValueError):
        return []
    return [] if ids is None else [ids] if isinstance(ids, int) else [*ids]


def _embeddings(name: str) -> float:
    """Rows of the embedding; infinite where the folder holds a tokenizer or an adapter only."""
    folder = Path(resolve(name))
    if folder.is_dir() and not (folder / "config.json").is_file():
        return math.inf
    return float(getattr(load_config(name).get_text_config(), "vocab_size", math.inf))


def load_model(name: str, dtype: str, quantization: "BitsAndBytesConfig | None" = None) -> Any:
    """The causal language model (a PreTrainedModel, whose `to` has a wrong type) in `dtype`, or in NF4 where a
    BitsAndBytesConfig is given. On a processor 22 to 44 answers at a time come 1.2 to 1.3 times as fast by grouped
    attention.
    """
    import torch

    import_losses()  # before the models

    from transformers import AutoModelForCausalLM

    from medsft.models import grouped_attention

    # Fused attention of single bf16 queries is slow on processors: 48 answers took 54 s with sdpa, 41 s with eager.
    attention = "sdpa" if torch.cuda.is_available() else "eager"
    # A quantized model cannot be moved later; any other is moved by its user.
    storage = {"quantization_config": quantization} if quantization is not None else {}
    network = _from_pretrained(
        AutoModelForCausalLM,
        name,
        dtype=getattr(torch, dtype),
        attn_implementation=attention,
        use_safetensors=True,
        **storage,
    )
    grouped_attention.use(network)
    return network


def nf4(dtype: str, double_quant: bool = True) -> "BitsAndBytesConfig":
    """QLoRA's 4-bit NormalFloat storage, computing in `dtype` (Dettmers et al. 2023, arXiv:2305.14314)."""
    import torch
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=double_quant,
        bnb_4bit_compute_dtype=getattr(torch, dtype),
    )


def cast_trained(network: "torch.nn.Module", dtype: str) -> None:
    """Convert the trained weights to `dtype`; before the optimizer is made, because its states take their precision.

    Modules that LoRA trains whole (lora_modules_to_save) compute in `dtype` and give the precision of the base on: the
    layers after them take no other. Adapters convert by themselves.
    """
    import torch
    from peft.utils import ModulesToSaveWrapper

    for parameter in network.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(getattr(torch, dtype))
    for module in network.modules():
        if isinstance(module, ModulesToSaveWrapper):
            base = next(module.original_module.parameters()).dtype
            module.register_forward_pre_hook(partial(_cast_input, getattr(torch, dtype)))
            module.register_forward_hook(partial(_cast_output, base))


def _cast_input(dtype: "torch.dtype", module: object, inputs: "tuple[torch.Tensor, ...]") -> "tuple[torch.Tensor, ...]":
    return tuple(x.to(dtype) if x.is_floating_point() else x for x in inputs)


def _cast_output(dtype: "torch.dtype", module: object, inputs: object, output: "torch.Tensor") -> "torch.Tensor":
    return output.to(dtype)


def _from_pretrained(auto_class: Any, name: str, **kwargs: object) -> Any:
    path = resolve(name)
    if "use_safetensors" in kwargs:
        check_weights(path)
    try:
        return auto_class.from_pretrained(path, trust_remote_code=False, **kwargs)
    except (OSError, ValueError) as error:
        if name.startswith("embedded/"):
            raise
        reason = " ".join(str(error).split())[:300]
        raise UserError(
            f"model '{name}' cannot be loaded: {reason}; give a local folder, or {SMOLLM2} which needs no network"
        ) from error
