"""A folder of wheels for a machine without network, and the environment that the check makes of it.

    python tests/gpu/wheels.py FOLDER --cuda 130 --python 3.12     # where there is a network: fills FOLDER
    make gpu-check WHEELS=FOLDER PYTHON=python3                    # there: beside the machine's own torch

torch, transformers, accelerate and peft are taken from that machine, as they are. The tokenizer goes along, as the
package that brings it holds a whole model.
"""

import argparse
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

MOST = 64 * 2**20  # bytes of the folder
# The rest of what the recipes import and a machine for deep learning does not have; without their own dependencies,
# which such a machine has. DeepSpeed has no wheel on the index: it is made here, without compiling anything.
PACKAGES = ["trl", "datasets", "bitsandbytes", "deepspeed", "gguf", "datasketch", "ftfy", "phonenumbers", "dill",
            "multiprocess", "hjson", "psutil", "rich", "py-cpuinfo", "nvidia-ml-py", "xxhash", "wcwidth", "pydantic",
            "pydantic_core", "annotated-types", "typing-inspection", "torchao", "flashoptim"]  # fmt: skip
RECIPES = Path(__file__).resolve().parents[2] / "recipes"


def fill(folder: Path, cuda: str, python: str) -> None:
    """Download the pinned wheels, strip bitsandbytes, add the tokenizer. SystemExit above `MOST` bytes."""
    files = (RECIPES.parent / name for name in ("constraints.txt", "pyproject.toml"))
    pins = "".join(file.read_text(encoding="utf-8") for file in files)
    pinned = [re.findall(rf"\b{name}==[\w.]+", pins)[0] for name in PACKAGES]
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    platforms = [word for n in (17, 24, 27, 28, 34) for word in ("--platform", f"manylinux_2_{n}_x86_64")]
    platforms += ["--platform", "manylinux2014_x86_64", "--only-binary", ":all:", "--python-version", python]
    for name in pinned:
        if name.startswith("deepspeed"):
            words, env = ["wheel", "--no-deps", "--no-build-isolation"], {**os.environ, "DS_BUILD_OPS": "0"}
        else:
            words, env = ["download", "--no-deps", *platforms], dict(os.environ)
        subprocess.run([*pip, *words, "--dest" if words[0] == "download" else "-w", folder, name], env=env, check=True)
    for wheel in folder.glob("bitsandbytes-*.whl"):
        strip(wheel, cuda)
    sys.path.insert(0, str(RECIPES))
    from medsft.models import embedded, loading

    loading.load_tokenizer(embedded.SMOLLM2).save_pretrained(folder / "tokenizer")
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    print(f"{folder}: {size / 2**20:.1f} MiB")
    if size > MOST:
        raise SystemExit(f"{folder} has more than {MOST / 2**20:.0f} MiB")


def strip(wheel: Path, cuda: str) -> None:
    """Leave in a wheel of bitsandbytes only the library of one CUDA version, such as '130', and the processor's."""
    with zipfile.ZipFile(wheel) as whole:
        names = whole.namelist()
        libraries = {name for name in names if name.endswith(".so")}
        keep = {name for name in libraries if name.endswith((f"_cuda{cuda}.so", "_cpu.so"))}
        if not any("cuda" in name for name in keep):
            there = sorted(re.findall(r"_cuda(\d+)\.so", " ".join(libraries)))
            raise SystemExit(f"{wheel}: no library for CUDA {cuda}; it has {', '.join(there)}")
        smaller = wheel.with_suffix(".tmp")
        with zipfile.ZipFile(smaller, "w", zipfile.ZIP_DEFLATED) as new:
            for name in (name for name in names if name not in libraries - keep):
                content = whole.read(name)
                if name.endswith(".dist-info/RECORD"):  # pip wants each file it lists
                    lines = content.decode().splitlines(keepends=True)
                    content = "".join(x for x in lines if x.split(",")[0] not in libraries - keep).encode()
                new.writestr(whole.getinfo(name), content)
    smaller.replace(wheel)


def install(wheels: Path, site: Path) -> None:
    """Unpack the wheels into a folder of their own, which goes first on PYTHONPATH. SystemExit where pip refuses."""
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index", "--no-deps"]
    done = subprocess.run([*pip, "--no-compile", "--upgrade", "--target", site, *sorted(wheels.glob("*.whl"))])
    if done.returncode:
        raise SystemExit(2)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--cuda", required=True, help="version that the machine's torch was built for, such as 130")
    parser.add_argument("--python", default="3.12", help="version of the machine's Python")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    fill(given.folder, given.cuda, given.python)
