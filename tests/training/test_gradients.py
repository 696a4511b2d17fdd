"""What the losses must flow through: 4-bit layers after an evaluation, packed rows apart from each other."""

from pathlib import Path
from typing import Any

import pytest
import torch

from medsft.models import grouped_attention, loading
from medsft.patches import bitsandbytes
from medsft.tokenization import chat_template

pytestmark = pytest.mark.slow


def gradients(tiny_model: Path, evaluated_first: bool) -> torch.Tensor:
    """Gradients of LoRA on the 4-bit tiny model, as one vector."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    base = loading.load_model(str(tiny_model), "bfloat16", loading.nf4("bfloat16"))
    network = get_peft_model(base, LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False))
    bitsandbytes.keep_trainable_layout(network)
    ids = torch.arange(100, 164)[None]
    if evaluated_first:
        network.eval()
        with torch.no_grad():
            network(input_ids=ids, labels=ids)
    network.train()
    network(input_ids=ids, labels=ids).loss.backward()
    trained = [p for p in network.parameters() if p.requires_grad]
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in trained)
    return torch.cat([p.grad.flatten().float() for p in trained if p.grad is not None])


def test_an_evaluation_leaves_the_gradients_of_4_bit_layers_as_they_were(tiny_model: Path) -> None:
    assert torch.equal(gradients(tiny_model, evaluated_first=True), gradients(tiny_model, evaluated_first=False))


@pytest.mark.parametrize("attention", ["sdpa", "eager", "grouped"])
def test_packed_rows_do_not_see_each_other(tiny_model: Path, tmp_path: Path, attention: str) -> None:
    """bfd packing as the trainer does it: a row gets the logits in the pack that it gets alone."""
    from datasets import Dataset
    from transformers import AutoModelForCausalLM
    from trl import SFTConfig, SFTTrainer

    rows = [
        {"messages": [{"role": "user", "content": f"Pain {'again ' * n}?"}, {"role": "assistant", "content": "Rest."}]}
        for n in (1, 3, 5, 2)
    ]
    settings: dict[str, Any] = {"packing": True, "max_length": 256, "assistant_only_loss": True, "use_cpu": True}
    config = SFTConfig(output_dir=str(tmp_path), report_to="none", activation_checkpointing=False, **settings)
    tokenizer = loading.load_tokenizer(str(tiny_model))
    tokenizer.chat_template = chat_template.training_template(tokenizer)
    network = AutoModelForCausalLM.from_pretrained(
        tiny_model, dtype=torch.float32, use_cache=False, attn_implementation=attention.replace("grouped", "eager")
    )
    assert attention != "grouped" or grouped_attention.use(network)
    trainer = SFTTrainer(network, args=config, train_dataset=Dataset.from_list(rows), processing_class=tokenizer)
    assert len(trainer.train_dataset) == 1  # all four in one pack
    batch = trainer.data_collator([trainer.train_dataset[0]])
    network.eval()
    with torch.no_grad():
        packed = network(**{k: v for k, v in batch.items() if k != "labels"}).logits[0]
        starts = [*torch.nonzero(batch["position_ids"][0] == 0).flatten().tolist(), packed.shape[0]]
        assert len(starts) == 5
        for start, end in zip(starts, starts[1:], strict=False):
            alone = network(input_ids=batch["input_ids"][:, start:end]).logits[0]
            assert torch.allclose(packed[start:end], alone, atol=1e-4)
