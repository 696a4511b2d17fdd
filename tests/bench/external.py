"""Other frameworks, installed by the user in an environment of their own and named NAME=PYTHON; so far LLaMA-Factory.

    python -m venv /opt/lf && /opt/lf/bin/pip install llamafactory==0.9.5 psutil
    make bench BENCH=training EXTERNAL=llamafactory=/opt/lf/bin/python

It trains once over the same rows with the values of its own LoRA example (examples/train_lora of 0.9.5): micro-batches
of 1 accumulated to 8, learning rate 1e-4 (1e-5 for all weights), cosine with a tenth of warmup, rank 8 on all
projections, bf16 by autocast where that is faster. Not as there: rows of 512 tokens at most, as the notebook has it,
and a model whose configuration says float32 where that is faster: it loads weights in the type that stands there, and
this model's bf16 takes ten times as long on a processor without bf16 instructions.
"""

import json
from pathlib import Path

from medsft.files import read_json, write_json, write_text

KNOWN = ("llamafactory",)


def parse(external: list[str]) -> dict[str, str]:
    """{name: python} of NAME=PYTHON words; ends the bench with one line where a name is not known."""
    named = dict(word.split("=", 1) for word in external if "=" in word)
    if len(named) != len(external) or set(named) - set(KNOWN):
        raise SystemExit(f"--external: expected NAME=PYTHON with NAME one of {', '.join(KNOWN)}, found {external}")
    for python in named.values():
        if not Path(python).is_file():
            raise SystemExit(f"--external: {python} is not a file; name the python of the framework's environment")
    return named


def llamafactory(rows: Path, base: str, method: str, output: Path, bf16: bool) -> list[str]:
    """Write its data set's description and its configuration beside `output`; what watched.py is to run."""
    tags = {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant"}
    described = {"file_name": rows.name, "formatting": "sharegpt", "columns": {"messages": "messages"}, "tags": tags}
    write_json(rows.parent / "dataset_info.json", {"rows": described})
    model = base if bf16 else in_float32(Path(base), rows.parent.with_name("float32"))
    config = {
        "model_name_or_path": model, "stage": "sft", "do_train": True, "template": "smollm2", "cutoff_len": 512,
        "dataset": "rows", "dataset_dir": str(rows.parent), "output_dir": str(output), "num_train_epochs": 1,
        "per_device_train_batch_size": 1, "gradient_accumulation_steps": 8, "lr_scheduler_type": "cosine",
        "warmup_ratio": 0.1, "bf16": bf16, "use_cpu": True, "save_strategy": "no", "report_to": "none",
        "learning_rate": 1e-5 if method == "full" else 1e-4, "overwrite_cache": True,
    }  # fmt: skip
    if method == "full":
        config["finetuning_type"] = "full"
    else:
        config |= {"finetuning_type": "lora", "lora_rank": 8, "lora_target": "all"}
    if method == "qlora":
        config |= {"quantization_bit": 4, "quantization_method": "bnb"}
    path = output.with_name(output.name + ".yaml")
    write_text(path, json.dumps(config, indent=2))  # JSON is YAML
    return ["llamafactory.cli", "train", str(path)]


def in_float32(base: Path, folder: Path) -> str:
    """The model's folder again as links, with a configuration that says float32."""
    folder.mkdir(exist_ok=True)
    for path in base.iterdir():
        (folder / path.name).unlink(missing_ok=True)
        if path.name != "config.json":
            (folder / path.name).symlink_to(path)
    config = {name: value for name, value in read_json(base / "config.json").items() if name != "dtype"}
    # the older of the two names: the framework brings a transformers of its own
    write_json(folder / "config.json", config | {"torch_dtype": "float32"})
    return str(folder)
