"""The loss of the doctor's tokens alone, on a processor: no logits of other positions, and no unused metrics.

Off Triton, TRL 1.16 puts every position through the head (49,152 words each), keeps entropy and accuracy besides, and
computes the logits again for the gradient: a third of a LoRA step of the embedded model. Here the gradient is taken
while the logits of a few hundred answer tokens are at hand.
"""

import types
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from transformers import PreTrainedModel
    from transformers.modeling_outputs import ModelOutput

TOKENS = 256  # at a time: 50 MB of logits in float32 for 49,152 words
SCALED = ("final_logit_softcapping", "logit_scale", "output_multiplier", "lm_head_multiplier", "logits_scaling")


class AnswerLoss(torch.autograd.Function):
    """(n, h) hidden states, (v, h) head, (n,) targets -> summed negative log-likelihood in nats."""

    @staticmethod
    def forward(ctx: Any, hidden: torch.Tensor, head: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        kind = hidden.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else hidden.dtype
        weight, total = head.to(dtype), torch.zeros((), dtype=torch.float32)
        to_hidden = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        to_head = torch.zeros_like(head) if ctx.needs_input_grad[1] else None
        for start in range(0, len(targets), TOKENS):
            part, wanted = hidden[start : start + TOKENS].to(dtype), targets[start : start + TOKENS, None]
            log_p = (part @ weight.t()).float().log_softmax(-1)
            total -= log_p.gather(1, wanted).sum()
            if to_hidden is None and to_head is None:
                continue
            gradient = log_p.exp_().scatter_add_(1, wanted, -torch.ones_like(wanted, dtype=log_p.dtype)).to(dtype)
            if to_hidden is not None:
                to_hidden[start : start + TOKENS] = gradient @ weight
            if to_head is not None:
                to_head += gradient.t() @ part
        ctx.save_for_backward(to_hidden, to_head)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        return *(None if saved is None else saved * gradients[0] for saved in ctx.saved_tensors), None


def answers(hidden: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(b, t, h), (b, t) -> (n, h), (n,): the positions that have a label."""
    mask = labels != -100
    return hidden[mask], labels[mask]


def sum_over_answers(network: "PreTrainedModel") -> bool:
    """Make `network(..., labels=..., fused_lm_head=True)` return this loss, summed; False where its head is not plain.

    `network` is a model that TRL's SFTTrainer has prepared; without `fused_lm_head` it works as before.
    """
    from trl.trainer.utils import FusedCausalLMOutput

    head, config = network.get_output_embeddings(), network.config.get_text_config()
    scaled = any(getattr(config, name, None) is not None for name in SCALED) or hasattr(config, "router_aux_loss_coef")
    if type(head) is not torch.nn.Linear or head.bias is not None or scaled:
        return False
    before = network.forward

    def forward(
        self: Any, *args: object, fused_lm_head: bool = False, labels: torch.Tensor | None = None, **kwargs: object
    ) -> "ModelOutput":
        if not fused_lm_head or labels is None:
            return before(*args, **({} if labels is None else {"labels": labels}), **kwargs)
        hidden = self.base_model(*args, **kwargs).last_hidden_state
        states, targets = answers(hidden[:, :-1], labels[:, 1:])
        loss = AnswerLoss.apply(states, self.get_output_embeddings().weight, targets)
        return FusedCausalLMOutput(loss=loss, label_mask=labels[:, 1:] != -100)

    forward.__wrapped__ = type(network).forward  # type: ignore[attr-defined]  # generate reads its signature
    network.forward = types.MethodType(forward, network)  # type: ignore[method-assign]
    return True
