"""Unsloth's way of training, for comparison: its model and TRL's SFTTrainer, in its own environment (see external.py).

    python tests/bench/unsloth_way.py ROWS.jsonl MODEL lora|qlora|full OUTPUT [False]

With the values of its notebooks: micro-batches of 2 accumulated to 4 times as much, learning rate 2e-4 (2e-5 for all
weights) falling linearly, adapters of rank 16 on all projections, activations computed again by its own checkpointing.
Not as there: AdamW of torch instead of 8 bits, which needs a GPU; a tenth of warmup instead of 5 steps, which 32 rows
hardly end; where the last word is False, float32.
"""

import json
import sys
from pathlib import Path


def main() -> None:
    rows, base, method, output = Path(sys.argv[1]), *sys.argv[2:5]
    import unsloth  # noqa: I001 - it changes the libraries that come after it
    import torch
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    dtype = torch.float32 if sys.argv[5:] == ["False"] else torch.bfloat16
    model, tokenizer = unsloth.FastLanguageModel.from_pretrained(
        base, max_seq_length=512, dtype=dtype, load_in_4bit=method == "qlora", full_finetuning=method == "full"
    )
    if method != "full":
        targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
        model = unsloth.FastLanguageModel.get_peft_model(
            model, r=16, lora_alpha=16, lora_dropout=0, bias="none", target_modules=targets, random_state=3407,
            use_gradient_checkpointing="unsloth",
        )  # fmt: skip
    dialogues = [json.loads(line)["messages"] for line in rows.open(encoding="utf-8")]
    texts = [tokenizer.apply_chat_template(messages, tokenize=False) for messages in dialogues]
    arguments = SFTConfig(
        output_dir=output, dataset_text_field="text", max_length=512, per_device_train_batch_size=2,
        gradient_accumulation_steps=4, num_train_epochs=1, warmup_steps=max(1, len(texts) // 80), logging_steps=1,
        learning_rate=2e-5 if method == "full" else 2e-4, optim="adamw_torch", weight_decay=0.001,
        lr_scheduler_type="linear", seed=3407, save_strategy="no", report_to="none", bf16=dtype == torch.bfloat16,
        fp16=False,
    )  # fmt: skip
    trainer = SFTTrainer(
        model=model, processing_class=tokenizer, train_dataset=Dataset.from_dict({"text": texts}), args=arguments
    )
    trainer.train()
    model.save_pretrained(output)


if __name__ == "__main__":
    main()
