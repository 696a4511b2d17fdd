"""Sizes of a model counted exactly from its class on the meta device: no weights, no network, two seconds for 7B."""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from medsft.errors import UserError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedConfig, PreTrainedModel

CONFIGS = Path(__file__).resolve().parent / "model_configs"


@dataclass(frozen=True)
class Sizes:
    """A decoder. `linears`: (last part of the name, inputs, outputs) of each linear layer but the output head; experts
    in one tensor are not among them. `layer`: parameters of the largest layer; `root`: of what is outside all layers.
    `uniform`: all layers are alike.
    """

    parameters: int
    linears: tuple[tuple[str, int, int], ...]
    layer: int
    layers: int
    hidden: int
    vocabulary: int
    uniform: bool
    tensors: tuple[int, ...] = ()
    root: int = 0

    @property
    def linear_parameters(self) -> int:
        """Weights that NF4 packs and adapters can target: 6,979,321,856 for Mistral-7B."""
        return sum(inputs * outputs for _, inputs, outputs in self.linears)


def config_file(name: str) -> Path:
    """Where the config.json of this hub id or embedded model is kept, if it is."""
    return CONFIGS / f"{name.replace('embedded/', 'HuggingFaceTB/').replace('/', '--')}.json"


def known_config(name: str) -> "PreTrainedConfig | None":
    """The architecture of a well-known hub id or embedded model without network; None if it is not kept here."""
    file = config_file(name)
    if not file.is_file():
        return None

    from transformers import AutoConfig

    config: PreTrainedConfig = AutoConfig.from_pretrained(file)  # which reads infinite numbers too
    config.name_or_path = ""  # it would be this machine's path
    return config


def sizes_of(config: "PreTrainedConfig") -> Sizes:
    """Count the parameters of the model class that belongs to `config`.

    Raises UserError, with the reason, where transformers has no decoder for it.
    """
    values = json.dumps(config.to_dict(), sort_keys=True)  # transformers' own JSON writes infinity as a dictionary
    return _count(config.__class__, values)  # type: ignore[arg-type]


def count_parameters(config: "PreTrainedConfig") -> int:
    """Logical parameters, tied ones once: 7,241,732,096 for Mistral-7B."""
    return sizes_of(config).parameters


def cache_bytes(config: "PreTrainedConfig") -> int:
    """Of one token in bf16: keys and values of each layer; 131,072 for Mistral-7B."""
    text = config.get_text_config()
    heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    per_head = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    return int(2 * text.num_hidden_layers * heads * per_head * 2)


def count_lora(config: "PreTrainedConfig", r: int, targets: str | list[str] = "all-linear") -> int:
    """Parameters of rank-`r` adapters, r (inputs + outputs) per target (arXiv:2106.09685): 41,943,040 for Mistral-7B
    at r 16. `targets`: 'all-linear', or last parts of module names such as q_proj. Raises UserError for an absent one.
    """
    return lora_parameters(sizes_of(config), r, targets)


def lora_parameters(sizes: Sizes, r: int, targets: str | list[str] = "all-linear") -> int:
    """As `count_lora`, of a model already counted."""
    names = {name for name, _, _ in sizes.linears}
    wanted = names if targets == "all-linear" else {targets} if isinstance(targets, str) else set(targets)
    if wanted - names:
        raise UserError(f"the model has no linear layer '{min(wanted - names)}'; it has {', '.join(sorted(names))}")
    return sum(r * (inputs + outputs) for name, inputs, outputs in sizes.linears if name in wanted)


def count_modules(config: "PreTrainedConfig", names: tuple[str, ...]) -> int:
    """Parameters of the modules whose names end so, such as lm_head: 131,072,000 for Mistral-7B."""
    from medsft.models.meta import empty_model

    named = empty_model(config, "float32").named_modules() if names else []
    return sum(p.numel() for name, module in named if name.endswith(names) for p in module.parameters())


@cache
def _count(config_class: "type[PreTrainedConfig]", values: str) -> Sizes:
    import torch
    from transformers.pytorch_utils import Conv1D

    from medsft.models.meta import empty_model

    config = config_class.from_dict(json.loads(values))
    model = empty_model(config, "float32")
    head, text = model.get_output_embeddings(), config.get_text_config()
    linears = []
    for name, module in model.named_modules():
        last = name.rpartition(".")[2]
        if isinstance(module, torch.nn.Linear) and module is not head:
            linears.append((last, module.in_features, module.out_features))
        elif isinstance(module, Conv1D):  # GPT-2's linear layer, with its weight transposed
            linears.append((last, *module.weight.shape))
    layers, parameters = _layers(model, text.num_hidden_layers), sum(p.numel() for p in model.parameters())
    return Sizes(
        parameters=parameters,
        linears=tuple(linears),
        layer=max(sum(p.numel() for p in layer.parameters()) for layer in layers),
        layers=text.num_hidden_layers,
        hidden=text.hidden_size,
        vocabulary=text.vocab_size,
        uniform=_alike(layers, text),
        tensors=tuple(p.numel() for p in model.parameters()),
        # some hybrids share one block among layers
        root=parameters - sum(p.numel() for p in {p for layer in layers for p in layer.parameters()}),
    )


def _layers(model: "PreTrainedModel", depth: int) -> "list[torch.nn.Module]":
    import torch

    stacks = [m for m in model.modules() if isinstance(m, torch.nn.ModuleList) and len(m) == depth]
    lists: list[list[torch.nn.Module]] = [list(stack) for stack in stacks]
    if not lists:
        raise UserError(f"the memory plan needs a decoder with a list of layers; '{model.config.model_type}' has none")
    return max(lists, key=lambda layers: sum(p.numel() for layer in layers for p in layer.parameters()))


def _alike(layers: "list[torch.nn.Module]", text: "PreTrainedConfig") -> bool:
    """Whether all layers have the same tensors and settings, so that two of them stand for all."""
    shapes = {tuple((n, tuple(p.shape)) for n, p in layer.named_parameters()) for layer in layers}
    lists = [v for v in vars(text).values() if isinstance(v, list) and len(v) == len(layers)]
    return len(shapes) == 1 and all(len({str(v) for v in values}) == 1 for values in lists)
