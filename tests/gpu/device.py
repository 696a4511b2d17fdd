"""What the check runs on the device itself, in a process of its own.

python tests/gpu/device.py weights FOLDER LAYERS cuda TOKENIZER    # the study's shape, random, in bf16
python tests/gpu/device.py peak cuda                               # how fast it multiplies, in TFLOP/s
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

STUDY = "mistralai/Mistral-7B-Instruct-v0.2"
TOY = {"hidden_size": 128, "intermediate_size": 448, "num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 32}
SIDE, TIMES = 8192, 10  # of the products


def study_shape(on_cpu: bool) -> Any:
    """The study model's configuration; for a processor with its widths divided by 32, and four layers."""
    from medsft.models.parameter_counts import known_config

    config: Any = known_config(STUDY)
    for name, value in {**TOY, "num_hidden_layers": 4}.items() if on_cpu else ():
        setattr(config, name, value)
    config.dtype = "bfloat16"
    return config


def cut_tokenizer(source: str, words: int, folder: Path) -> None:
    """Save a tokenizer without the words beyond the model's vocabulary, which are the last merges of its encoding."""
    from medsft.files import read_json, write_json
    from medsft.models import loading

    loading.load_tokenizer(source).save_pretrained(folder)
    whole = read_json(folder / "tokenizer.json")
    model = whole["model"]
    model["vocab"] = vocab = {word: number for word, number in model["vocab"].items() if number < words}
    pairs = [pair.split(" ") if isinstance(pair, str) else pair for pair in model["merges"]]
    model["merges"] = [pair for pair in pairs if {*pair, "".join(pair)} <= vocab.keys()]
    write_json(folder / "tokenizer.json", whole)


def write_weights(folder: Path, layers: int, device: str, tokenizer: str) -> None:
    """Random weights: config, tokenizer, a file for each layer and one for the rest, for smaller models to share."""
    import torch
    from safetensors.torch import save_file

    from medsft.models import loading
    from medsft.models.meta import empty_model

    config = study_shape(device == "cpu")
    config.num_hidden_layers = layers
    cut_tokenizer(tokenizer, config.vocab_size, folder)
    words = loading.load_tokenizer(str(folder))
    for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
        setattr(config, name, getattr(words, name))
    config.save_pretrained(folder)
    draw, files = torch.Generator(device).manual_seed(42), dict[str, dict[str, torch.Size]]()
    for name, empty in empty_model(config, "bfloat16").state_dict().items():
        parts = name.split(".")
        file = f"layer-{int(parts[2]):03}.safetensors" if parts[1] == "layers" else "outside.safetensors"
        files.setdefault(file, {})[name] = empty.shape
    for file, shapes in files.items():
        drawn = {name: torch.ones(size, dtype=torch.bfloat16, device=device) for name, size in shapes.items()}
        for tensor in drawn.values():
            if tensor.dim() > 1:  # not a norm
                tensor.normal_(0, config.initializer_range, generator=draw)
        save_file({name: tensor.cpu() for name, tensor in drawn.items()}, folder / file, {"format": "pt"})


def peak(device: str) -> dict[str, Any]:
    """TFLOP/s of large bf16 products of random matrices (zeros are faster); a processor's in its faster precision."""
    import torch

    from medsft.hardware import matmul_benchmark

    if device == "cpu":
        speed = {matmul_benchmark.fastest(name) / 1000: name for name in ("bfloat16", "float32")}
        return {"tflops": max(speed), "precision": speed[max(speed)]}
    one, two = (torch.randn(SIDE, SIDE, device=device, dtype=torch.bfloat16) for _ in range(2))
    started = 0.0
    for number in range(3 + TIMES):  # three to warm up
        if number == 3:
            torch.cuda.synchronize()
            started = time.perf_counter()
        one @ two
    torch.cuda.synchronize()
    tflops = 2 * SIDE**3 * TIMES / (time.perf_counter() - started) / 1e12
    able = ".".join(map(str, torch.cuda.get_device_capability()))
    return {"tflops": tflops, "precision": "bfloat16", "compute_capability": able, "torch_cuda": torch.version.cuda}


if __name__ == "__main__":
    if sys.argv[1] == "weights":
        write_weights(Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4], sys.argv[5])
    else:
        print(json.dumps(peak(sys.argv[2])))
