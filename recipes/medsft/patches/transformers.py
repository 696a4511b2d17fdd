"""transformers: the attention implementation of a model, which its configuration keeps under a private name; an option
that older versions call otherwise; the sampler of the Trainer; and losses without SciPy.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch.utils.data import Sampler
    from transformers import PreTrainedConfig, Trainer
    from trl import SFTConfig


def attention_of(config: "PreTrainedConfig") -> str:
    """The attention implementation in force, such as 'sdpa'."""
    return str(config._attn_implementation)


def set_attention(config: "PreTrainedConfig", name: str) -> None:
    """Set the attention implementation of a model that is not built yet.

    `set_attn_implementation` is public, but a method of the built model. `AutoModel.from_config` takes the name too,
    but shards the model where DeepSpeed ZeRO-3 is in force.
    """
    config._attn_implementation = name


def sft_config() -> "type[SFTConfig]":
    """TRL's SFTConfig. Under a transformers that does not know `activation_checkpointing` yet, such as 5.17, it takes
    that option and hands it on under its older name, so that the recipes run there as they are.
    """
    from trl import SFTConfig

    if hasattr(SFTConfig, "activation_checkpointing"):
        return SFTConfig

    @dataclass
    class Config(SFTConfig):
        _VALID_DICT_FIELDS = [*SFTConfig._VALID_DICT_FIELDS, "activation_checkpointing_kwargs"]
        activation_checkpointing: bool | None = None
        activation_checkpointing_kwargs: dict[str, Any] | str | None = None

        def __post_init__(self) -> None:
            if self.activation_checkpointing is not None:
                self.gradient_checkpointing = self.activation_checkpointing
            self.gradient_checkpointing_kwargs = self.activation_checkpointing_kwargs
            super().__post_init__()

    Config.__qualname__ = "Config"  # transformers saves it with the weights, and that finds it by name
    globals()["Config"] = Config
    return Config


def replace_sampler(trainer: "Trainer", replaced: "Callable[[Sampler[int]], Sampler[int]]") -> None:
    """Let what `replaced` makes of the Trainer's own sampler decide the order of its training rows."""
    own = trainer._get_train_sampler

    def sampler(dataset: Any = None) -> "Sampler[int] | None":
        made = own(dataset)
        return made if made is None else replaced(made)

    trainer._get_train_sampler = sampler  # type: ignore[method-assign, assignment]


def import_losses() -> None:
    """Import the losses of all models without scipy.optimize (321 modules, 0.3 s of processor time).

    Only object detection uses it, to match boxes; it would not find it in this process, which trains or asks language
    models. To be called before a model's code is imported.
    """
    from transformers import utils

    known = utils.is_scipy_available
    utils.is_scipy_available = lambda: False
    try:
        import transformers.loss.loss_utils  # noqa: F401
    finally:
        utils.is_scipy_available = known
