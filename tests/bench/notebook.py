"""The source study's way of training, for comparison: rows padded to 512, loss on every token but padding.

    python tests/bench/notebook.py ROWS.jsonl MODEL lora|qlora|full OUTPUT [False]

As its notebook does: pad = EOS, DataCollatorForLanguageModeling, micro-batches of 4 accumulated to 16, bf16 by autocast
over weights in the checkpoint loader's float32, AdamW, learning rate 2e-4 with cosine decay, LoRA of rank 16 on the
seven projections, NF4 computed in float16. Not as there: this model's own chat template, so that the loss can be
compared; and where the last word is False no autocast, and NF4 computed in float32 (products in float16 take fifty
times as long on a processor without instructions for it).
"""

import json
import sys
from pathlib import Path


def main() -> None:
    rows, name, method, output = Path(sys.argv[1]), *sys.argv[2:5]
    autocast = sys.argv[5:] != ["False"]
    import torch
    from datasets import Dataset
    from peft import LoraConfig, get_peft_model
    from transformers import (
        AutoModelForCausalLM,
        AutoTokenizer,
        BitsAndBytesConfig,
        DataCollatorForLanguageModeling,
        Trainer,
        TrainingArguments,
    )

    tokenizer = AutoTokenizer.from_pretrained(name)
    tokenizer.pad_token = tokenizer.eos_token
    texts = [tokenizer.apply_chat_template(json.loads(line)["messages"], tokenize=False) for line in rows.open()]
    encoded = tokenizer(texts, truncation=True, max_length=512, padding="max_length", add_special_tokens=False)
    computed = torch.float16 if autocast else torch.float32
    nf4 = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=computed)
    quantized = {"quantization_config": nf4} if method == "qlora" else {}
    model = AutoModelForCausalLM.from_pretrained(name, dtype=torch.float32, **quantized)
    if method != "full":
        targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
        model = get_peft_model(model, LoraConfig(r=16, lora_alpha=32, target_modules=targets, task_type="CAUSAL_LM"))
    arguments = TrainingArguments(
        output_dir=output, per_device_train_batch_size=4, gradient_accumulation_steps=4, num_train_epochs=1,
        learning_rate=2e-4 if method != "full" else 2e-5, lr_scheduler_type="cosine", weight_decay=0.01, bf16=autocast,
        use_cpu=True, logging_steps=1, save_strategy="no", report_to="none", optim="adamw_torch", seed=42,
    )  # fmt: skip
    collator = DataCollatorForLanguageModeling(tokenizer, mlm=False)
    trainer = Trainer(
        model=model, args=arguments, train_dataset=Dataset.from_dict(dict(encoded)), data_collator=collator
    )
    trainer.train()
    trainer.save_model(output)


if __name__ == "__main__":
    main()
