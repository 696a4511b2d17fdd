r"""Other frameworks, installed by the user in environments of their own and named NAME=PYTHON: LLaMA-Factory, axolotl,
litgpt, Unsloth.

    python -m venv /opt/lf && /opt/lf/bin/pip install llamafactory==0.9.5 psutil
    python -m venv /opt/ax && /opt/ax/bin/pip install axolotl==0.19.0 psutil
    python -m venv /opt/lit && /opt/lit/bin/pip install litgpt==0.5.13 psutil
    python -m venv /opt/un && /opt/un/bin/pip install unsloth==2026.10.9 psutil && /opt/un/bin/pip uninstall torchvision
    make bench BENCH=training EXTERNAL="llamafactory=/opt/lf/bin/python axolotl=/opt/ax/bin/python \
        litgpt=/opt/lit/bin/python unsloth=/opt/un/bin/python"

Each trains once over the same rows with the values of its own example. LLaMA-Factory (examples/train_lora of 0.9.5):
micro-batches of 1 accumulated to 8, learning rate 1e-4 (1e-5 for all weights), cosine with a tenth of warmup, rank 8 on
all projections. Axolotl (examples/llama-3/lora-1b.yml): micro-batches of 2 accumulated to 4, learning rate
2e-4 (2e-5 for all weights), cosine, rank 16 on all projections, activations computed again. The others: litgpt_way.py,
unsloth_way.py.

Not as there: bf16 by autocast only where that is faster; rows of 512 tokens at most, as the notebook has it; a model
whose configuration says float32 where that is faster, for both load weights in the type that stands there, and this
model's bf16 takes ten times as long on a processor without bf16 instructions. Of axolotl also what needs a GPU: 8-bit
AdamW, FlashAttention, packing, its Triton kernels; and its 10 steps of warmup, which 32 rows never end, are a tenth.

Unsloth trains without torchvision, and stops at one that does not fit its torch; of 4 bits it says on a processor that
they need a GPU. Torchtune 0.6.1, its last release, does not import beside the torchao 0.18 that it asks pip for.
"""

import json
from pathlib import Path
from typing import Any

from medsft.files import read_json, write_json, write_text

HERE = Path(__file__).resolve().parent
TRAIN = {  # before the configuration, or a script of ours in the framework's environment
    "llamafactory": ["llamafactory.cli", "train"],
    "axolotl": ["axolotl.cli.train"],
    "litgpt": [str(HERE / "litgpt_way.py")],
    "unsloth": [str(HERE / "unsloth_way.py")],
}


def parse(external: list[str]) -> dict[str, str]:
    """{name: python} of NAME=PYTHON words; ends the bench with one line where a name is not known."""
    named = dict(word.split("=", 1) for word in external if "=" in word)
    if len(named) != len(external) or set(named) - set(TRAIN):
        raise SystemExit(f"--external: expected NAME=PYTHON with NAME one of {', '.join(TRAIN)}, found {external}")
    for python in named.values():
        if not Path(python).is_file():
            raise SystemExit(f"--external: {python} is not a file; name the python of the framework's environment")
    return named


def command(way: str, rows: Path, base: str, method: str, output: Path, bf16: bool) -> list[str]:
    """What watched.py is to run; the framework's configuration, if it reads one, is written beside `output`."""
    if way in ("litgpt", "unsloth"):
        return [*TRAIN[way], str(rows), base, method, str(output), str(bf16)]
    model = base if bf16 else in_float32(Path(base), rows.parent.with_name("float32"))
    configure = llamafactory if way == "llamafactory" else axolotl
    path = output.with_name(output.name + ".yaml")
    write_text(path, json.dumps(configure(rows, model, method, output, bf16), indent=2))  # JSON is YAML
    return [*TRAIN[way], str(path)]


def llamafactory(rows: Path, model: str, method: str, output: Path, bf16: bool) -> dict[str, Any]:
    """Its configuration; the description of its data set is written beside the rows."""
    tags = {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant"}
    described = {"file_name": rows.name, "formatting": "sharegpt", "columns": {"messages": "messages"}, "tags": tags}
    write_json(rows.parent / "dataset_info.json", {"rows": described})
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
    return config


def axolotl(rows: Path, model: str, method: str, output: Path, bf16: bool) -> dict[str, Any]:
    """Its configuration."""
    data = {"path": str(rows), "ds_type": "json", "type": "chat_template", "field_messages": "messages"}
    config = {
        "base_model": model, "datasets": [data], "dataset_prepared_path": str(output / "prepared"), "val_set_size": 0,
        "output_dir": str(output), "sequence_len": 512, "num_epochs": 1, "micro_batch_size": 2,
        "gradient_accumulation_steps": 2, "optimizer": "adamw_torch", "lr_scheduler": "cosine", "warmup_ratio": 0.1,
        "learning_rate": 2e-5 if method == "full" else 2e-4, "bf16": bf16, "fp16": False, "tf32": False,
        "gradient_checkpointing": True, "sdp_attention": True, "sample_packing": False, "save_strategy": "no",
    }  # fmt: skip
    if method != "full":
        config |= {"adapter": method, "load_in_4bit": method == "qlora", "lora_target_linear": True, "lora_r": 16}
        config |= {"lora_alpha": 32, "lora_dropout": 0.05}
        config |= dict.fromkeys(("lora_mlp_kernel", "lora_qkv_kernel", "lora_o_kernel", "lora_embedding_kernel"), False)
    return config


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
