"""Models without weights, on torch's meta device."""

from typing import TYPE_CHECKING, cast

import torch

from medsft.errors import UserError
from medsft.patches.transformers import import_losses, set_attention

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel


def empty_model(config: "PreTrainedConfig", dtype: str, attention: str = "sdpa") -> "PreTrainedModel":
    """The causal language model of `config` on meta. Raises UserError where transformers has none."""
    import_losses()  # before the models

    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING
    from transformers.initialization import no_init_weights

    try:
        network = cast("type[PreTrainedModel]", MODEL_FOR_CAUSAL_LM_MAPPING[type(config)])
        set_attention(config, attention)
        before = torch.get_default_dtype()
        torch.set_default_dtype(getattr(torch, dtype))
        try:
            with torch.device("meta"), no_init_weights():
                # the class itself: AutoModel would shard it where DeepSpeed ZeRO-3 is in force
                model = network(config)
            model.tie_weights()
            return model
        finally:
            torch.set_default_dtype(before)
    except (ValueError, AttributeError, KeyError, TypeError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f"no causal language model for '{config.model_type}': {reason}") from error
