"""Merge an adapter into a freshly loaded base at full precision, and check that it speaks as the adapter does.

Merging into 4-bit weights would round the adapter away, so a QLoRA arm is merged into the unquantized base too. It then
differs from what was trained by the quantization error of the base, which no merge can avoid.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

from medsft.errors import DoesNotFit, UserError
from medsft.hardware.specs import machine
from medsft.hub import hub_reachable
from medsft.models import loading
from medsft.records import Generation
from medsft.tokenization.answer_text import answer_text
from medsft.tokenization.chat_template import prompt_ids, stop_ids

if TYPE_CHECKING:
    import torch
    from peft import PeftModel
    from transformers import BatchEncoding, PreTrainedModel, PreTrainedTokenizerBase

# Mean Kullback-Leibler divergence, in nats a token, between the next-token distributions before and after. Measured on
# a 5-step adapter of SmolLM2-135M: under 1e-8 in float32; 0.005 in bfloat16, whose weights have 8 significant bits;
# 0.38 when the adapter is lost. SHARE_OF_ADAPTER catches an adapter so small that losing it would pass TOLERANCE.
TOLERANCE = {"float32": 1e-5, "bfloat16": 0.05}
SHARE_OF_ADAPTER = 0.2
BYTES = {"float32": 4, "bfloat16": 2}
WORDING = 32  # tokens
PROBES = (
    ("I have had a headache for two days and light hurts my eyes.", "Have you had a fever or a stiff neck with it?"),
    ("My son of four coughs at night.", "Keep him upright, let him drink, and see a doctor if he breathes fast."),
    ("Can I take ibuprofen with my blood pressure tablets?", "Please ask your pharmacist first: it may raise it."),
)


def check_base(base: str, recorded: str | None) -> None:
    """Raise UserError where the base is absent, gated or not the revision that `recorded` (train.json) names."""
    path = loading.resolve(base)
    if not Path(path).is_dir():
        _check_hub(base)
    if recorded and (found := loading.revision(base)) != recorded:
        raise UserError(
            f"{base} is now revision {found}, but the arm was trained on {recorded}; restore that revision, "
            "or train the arm again"
        )


def check_room(base: str, folder: Path, dtype: str, parameters: int) -> None:
    """Raise DoesNotFit where host memory or disk cannot hold `parameters` weights of `base` in `dtype`."""
    needed, here = parameters * BYTES[dtype], machine(folder)
    for what, free in (("host memory", here.host_available_bytes), ("disk", here.disk_bytes)):
        if needed > free:
            raise DoesNotFit(
                f"{base} in {dtype} takes {needed / 1e9:.1f} GB of {what}, {free / 1e9:.1f} are free; "
                "--format adapter needs neither"
            )


def merge(base: str, adapter: Path, dtype: str) -> "tuple[PreTrainedModel, torch.Tensor, float]":
    """The merged network, its logits on the probes, and the divergence between the base with and without the adapter.

    The logits, float32 of shape (tokens, vocabulary), are those of base and adapter before the merge.
    """
    from peft import PeftModel

    network = loading.load_model(base, dtype).eval()
    tokenizer = loading.load_tokenizer(str(adapter))
    untrained = probe_logits(network, tokenizer)
    adapted = PeftModel.from_pretrained(network, str(adapter), autocast_adapter_dtype=False).eval()
    before = probe_logits(adapted, tokenizer)
    # safe_merge refuses NaN; on a CPU peft adds in float32 and rounds once.
    merged = cast("PreTrainedModel", adapted.merge_and_unload(safe_merge=True))
    return merged, before, divergence(before, untrained)


def check_merge(folder: Path, before: "torch.Tensor", dtype: str, moved: float) -> float:
    """The divergence of the model saved in `folder` from the logits `before` the merge, in nats per token.

    Raises UserError where it exceeds the tolerance or a share of `moved`: the folder would not answer as the arm did.
    """
    network = loading.load_model(str(folder), dtype).eval()
    lost = divergence(before, probe_logits(network, loading.load_tokenizer(str(folder))))
    bound = min(TOLERANCE[dtype], max(SHARE_OF_ADAPTER * moved, 1e-6))
    if not lost <= bound:
        remedy = "; try --dtype float32" if dtype != "float32" else "; keep the adapter and report this"
        raise UserError(
            f"merged weights answer differently: mean divergence {lost:.2g} nats per token, allowed {bound:.2g}{remedy}"
        )
    return lost


def same_wording(folder: Path, dtype: str, rows: Sequence[Generation]) -> int:
    """In how many of the stored greedy answers the model in `folder` begins alike: the first WORDING tokens of each.

    Equal distributions do not make equal words: rounding in another order, and batching, turn near ties round.
    """
    import torch

    network, tokenizer = loading.load_model(str(folder), dtype).eval(), loading.load_tokenizer(str(folder))
    equal = 0
    for row in rows:
        ids = torch.tensor([prompt_ids(tokenizer, row["messages"])], device=network.device)
        limit = max(1, min(WORDING, row["new_tokens"]))
        with torch.inference_mode():
            said = network.generate(  # type: ignore[operator]  # a mixin's method
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=limit,
                do_sample=False,
                eos_token_id=sorted(stop_ids(tokenizer)),
                pad_token_id=tokenizer.pad_token_id,
            )[0, ids.shape[1] :]
        produced = [token for token in said.tolist() if token not in stop_ids(tokenizer)]
        equal += row["prediction"].strip().startswith(answer_text(tokenizer, produced).strip().rstrip("\ufffd"))
    return equal


def probe_logits(network: "PreTrainedModel | PeftModel", tokenizer: "PreTrainedTokenizerBase") -> "torch.Tensor":
    """Next-token logits in float32 over all positions of the probe dialogues: (tokens, vocabulary)."""
    import torch

    rows = []
    for asked, answer in PROBES:
        turns = [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]
        encoded = tokenizer.apply_chat_template(turns, return_tensors="pt", return_dict=True)
        ids = cast("BatchEncoding", encoded)["input_ids"]
        with torch.inference_mode():
            rows.append(network(ids.to(network.device)).logits[0].float().cpu())
    return torch.cat(rows)


def divergence(one: "torch.Tensor", other: "torch.Tensor") -> float:
    """Mean Kullback-Leibler divergence of `other` from `one` over positions, in nats; both (tokens, vocabulary)."""
    p, q = one.log_softmax(-1), other.log_softmax(-1)
    return float((p.exp() * (p - q)).sum(-1).mean())


def _check_hub(base: str) -> None:
    from huggingface_hub import HfApi, try_to_load_from_cache
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError

    if isinstance(try_to_load_from_cache(base, "config.json"), str):
        return
    remedy = "export where the arm was trained, or with --format adapter, which needs no base"
    if not hub_reachable():
        raise UserError(f"{base} is not on this machine and the hub cannot be reached; {remedy}")
    try:
        HfApi().auth_check(base)
    except GatedRepoError as error:
        terms = f"accept its terms at https://huggingface.co/{base}"
        raise UserError(f"{base} is gated: {terms}, then run `hf auth login`") from error
    except HfHubHTTPError as error:
        raise UserError(f"{base} is not on the hub, or private; {remedy}") from error
