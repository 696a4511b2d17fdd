"""litgpt's way of training, for comparison: its own command, in its own environment (see external.py).

    python tests/bench/litgpt_way.py ROWS.jsonl MODEL lora|qlora|full OUTPUT [False]

With the values of its example config_hub/finetune/llama-3.2-1B/lora.yaml: micro-batches of 1 accumulated to 8, learning
rate 2e-4, adapters of rank 32 on queries and values, loss on the questions too. Not as there: rows of this model's chat
format, a tenth of warmup instead of 10 steps, which 32 rows never end, and in full fine-tuning 8 rows a step, as the 64
of full.yaml are more than there are; where the last word is False, float32. The first of its runs converts the model to
its own format before (some seconds). OUTPUT becomes a folder for transformers, with the adapter merged.
"""

import json
import sys
from pathlib import Path


def main() -> None:
    rows, base, method, output = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], Path(sys.argv[4])
    precision = "32-true" if sys.argv[5:] == ["False"] else "bf16-true"
    from litgpt.__main__ import main as litgpt

    model = converted(base, rows.parent.with_name("litgpt") / "SmolLM2-135M-Instruct")
    dialogues = rows.parent.with_name("litgpt") / "rows"
    dialogues.mkdir(exist_ok=True)
    found = [instruction(json.loads(line)["messages"]) for line in rows.open(encoding="utf-8")]
    for name, some in (("train", found), ("val", found[:1])):
        (dialogues / f"{name}.json").write_text(json.dumps(some), encoding="utf-8")
    values = {"lr": 2e-4, "betas": [0.9, 0.95], "weight_decay": 0.1 if method == "full" else 0.0}
    optimizer = {"class_path": "torch.optim.AdamW", "init_args": values}
    options: dict[str, object] = {
        "out_dir": output / "litgpt", "precision": precision, "data": "JSON", "data.json_path": dialogues,
        "data.prompt_style": "smollm2", "train.save_interval": "null", "train.global_batch_size": 8,
        "train.micro_batch_size": 1, "train.epochs": 1, "train.max_seq_length": 512,
        "train.lr_warmup_steps": max(1, len(found) // 80), "eval.interval": 1000, "eval.max_new_tokens": 1,
        "eval.max_iters": 1, "eval.final_validation": "false", "optimizer": json.dumps(optimizer),
    }  # fmt: skip
    if method != "full":
        options |= {"lora_r": 32, "lora_alpha": 16, "lora_dropout": 0.05}
    if method == "qlora":
        options["quantize"] = "bnb.nf4"
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    sys.argv[1:] = ["finetune_full" if method == "full" else "finetune_lora", str(model), *words]
    litgpt()
    for_transformers(output / "litgpt" / "final", base, output)


def converted(base: Path, folder: Path) -> Path:
    """A folder with the model in litgpt's format; its name is that of litgpt's configuration."""
    from litgpt.scripts.convert_hf_checkpoint import convert_hf_checkpoint

    if not (folder / "lit_model.pth").exists():
        folder.mkdir(parents=True, exist_ok=True)
        for path in base.iterdir():
            if not (folder / path.name).exists():
                (folder / path.name).symlink_to(path)
        convert_hf_checkpoint(folder)
    return folder


def instruction(messages: list[dict[str, str]]) -> dict[str, str]:
    """A dialogue as litgpt's one question and answer; the turns before stand in the question, in ChatML."""
    asked = messages[0]["content"]
    for turn in messages[1:-1]:
        asked += f"<|im_end|>\n<|im_start|>{turn['role']}\n{turn['content']}"
    return {"instruction": asked, "output": messages[-1]["content"]}


def for_transformers(trained: Path, base: Path, output: Path) -> None:
    """Write the trained weights as transformers reads them into `output`."""
    import torch
    from litgpt.scripts.convert_lit_checkpoint import convert_lit_checkpoint
    from safetensors.torch import save_file

    convert_lit_checkpoint(trained, trained)
    weights = torch.load(trained / "model.pth", mmap=True, weights_only=True)
    weights.pop("lm_head.weight", None)  # tied
    save_file(
        {name: value.contiguous() for name, value in weights.items()}, output / "model.safetensors", {"format": "pt"}
    )
    for path in base.glob("*.json"):
        (output / path.name).write_bytes(path.read_bytes())


if __name__ == "__main__":
    main()
