"""Sizes of a model counted exactly from its class on the meta device: no weights, no network, two seconds for 7B."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from medsft.cli import UserError
from medsft.files import read_json

CONFIGS = Path(__file__).resolve().parent / "model_configs"


@dataclass(frozen=True)
class Sizes:
    """A dense decoder. `linears`: (last part of the name, inputs, outputs) of each linear layer but the output head."""

    parameters: int
    linears: tuple[tuple[str, int, int], ...]
    largest: int  # elements of the largest tensor
    layers: int
    hidden: int
    vocabulary: int

    @property
    def linear_parameters(self) -> int:
        """Weights that NF4 packs and adapters can target: 6,979,321,856 for Mistral-7B."""
        return sum(inputs * outputs for _, inputs, outputs in self.linears)


def known_config(name: str) -> Any | None:
    """The architecture of a well-known hub id or embedded model without network; None if it is not kept here."""
    file = CONFIGS / f"{name.replace('embedded/', 'HuggingFaceTB/').replace('/', '--')}.json"
    if not file.is_file():
        return None

    from transformers import AutoConfig

    values = read_json(file)
    return AutoConfig.for_model(values.pop("model_type"), **values)


def sizes_of(config: Any) -> Sizes:
    """Count the parameters of the model class that belongs to `config`.

    Raises UserError for a model that is not a dense decoder of linear layers: the arithmetic does not hold for it.
    """
    return _count(config.__class__, config.to_json_string(use_diff=False))


def count_parameters(config: Any) -> int:
    """Logical parameters, tied ones once: 7,241,732,096 for Mistral-7B."""
    return sizes_of(config).parameters


def count_lora(config: Any, r: int, targets: str | list[str] = "all-linear") -> int:
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


@cache
def _count(config_class: type[Any], values: str) -> Sizes:
    import json

    import torch
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING

    config = config_class.from_dict(json.loads(values))
    try:
        network_class: Any = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
        with torch.device("meta"):
            # the class itself: AutoModel would shard it where DeepSpeed ZeRO-3 is in force
            model = network_class(config)
    except (ValueError, AttributeError, KeyError) as error:
        raise UserError(f"no causal language model for '{config.model_type}': {str(error).splitlines()[0]}") from error
    head = model.get_output_embeddings()
    modules = [(n, m) for n, m in model.named_modules() if isinstance(m, torch.nn.Linear) and m is not head]
    parameters = sum(p.numel() for p in model.parameters())
    outside = sum(p.numel() for p in {model.get_input_embeddings().weight, *(head.parameters() if head else ())})
    text = config.get_text_config()
    sizes = Sizes(
        parameters=parameters,
        linears=tuple((name.rpartition(".")[2], m.in_features, m.out_features) for name, m in modules),
        largest=max(p.numel() for p in model.parameters()),
        layers=text.num_hidden_layers,
        hidden=text.hidden_size,
        vocabulary=text.vocab_size,
    )
    if sizes.linear_parameters < 0.8 * (parameters - outside):
        share = sizes.linear_parameters / (parameters - outside)
        raise UserError(
            f"the memory plan knows dense decoders of linear layers; '{config.model_type}' has {share:.0%} in these"
        )
    return sizes
