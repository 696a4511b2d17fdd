"""llama.cpp as the engine for GGUF files: its server, inside this process, from the wheel of xllamacpp."""

from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from medsft.arguments import GenerateArguments
from medsft.errors import UserError
from medsft.files import read_json
from medsft.inference.served import LLAMA_CPP, Engine

INSTALL = 'llama.cpp is not installed; run: pip install -e ".[serving]"'
KINDS = {"f32": "f32", "f16": "f16", "bf16": "bf16", "q8": "q8_0", "q4": "q4_k_m"}  # as arms and as exports are named


def available() -> bool:
    return find_spec("xllamacpp") is not None


def source_arm(args: GenerateArguments) -> str:
    """The trained arm of which a GGUF file was made: 'lora' of the arm 'lora_q8'. Other engines' arms are their own."""
    name, _, kind = args.arm.rpartition("_")
    return name if args.engine == "gguf" and kind in KINDS else args.arm


def gguf_file(args: GenerateArguments) -> Path:
    """The exported file of an arm such as 'lora_q8'. Raises UserError where the name or the file is another one."""
    source, kind = source_arm(args), args.arm.rpartition("_")[2]
    if source == args.arm:
        ends = ", ".join(f"_{each}" for each in KINDS)
        raise UserError(f"engine gguf: name the arm with its format ({ends}), such as --arm {args.arm}_q8")
    folder = Path(args.study_dir) / source / "export" / f"gguf-{KINDS[kind]}"
    found = next(iter(sorted(folder.glob("*.gguf"))), None)
    command = f"recipes/export.py --study_dir {args.study_dir} --arm {source} --format gguf --quantize {KINDS[kind]}"
    if found is None:
        raise UserError(f"{folder}: no GGUF file; write it: python {command}")
    trained = read_json(Path(args.study_dir) / source / "train.json")["fingerprint"]
    if read_json(folder / "export.json")["trained_on"] != trained:
        raise UserError(f"{folder}: {source} was trained again since; write it anew: python {command}")
    return found


def load(file: Path, slots: int, context: int) -> Engine:
    """llama.cpp with `slots` dialogues at once, each of at most `context` tokens. Raises UserError where it is not
    installed, or cannot read the file."""
    if not available():
        raise UserError(INSTALL)

    import torch
    import xllamacpp

    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(file)
    parameters.n_parallel, parameters.n_ctx = slots, slots * context
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = torch.get_num_threads()
    parameters.hostnames = ["127.0.0.1"]
    parameters.verbosity = 1  # errors
    try:
        server = xllamacpp.Server(parameters)
    except RuntimeError as error:
        raise UserError(f"{file}: llama.cpp cannot read it ({error}); export the arm again") from error
    return Engine((server.listening_address,), file.stem, LLAMA_CPP, version("xllamacpp"), slots, server)
