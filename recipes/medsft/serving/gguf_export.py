"""From an exported whole model to one GGUF file with its tokenizer and template, checked by llama.cpp where it is."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from medsft.arguments import ExportArguments
from medsft.hardware.specs import machine
from medsft.inference import llama_cpp
from medsft.models import loading
from medsft.models.model_checks import positions
from medsft.serving import gguf_check, gguf_file
from medsft.study import answer_again

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def replace_weights(
    folder: Path, args: ExportArguments, tokenizer: "PreTrainedTokenizerBase", parameters: int, dtype: str
) -> dict[str, object]:
    """Write ARM-QUANTIZE.gguf beside the safetensors in `folder`, check it, delete those, and return what is recorded.

    The reference is in float32 where host memory holds it, else in `dtype`.
    """
    file = folder / f"{args.arm}-{args.quantize}.gguf"
    context = positions(loading.load_config(str(folder)))
    gguf_file.write(folder, file, tokenizer, args.arm, args.quantize, int(min(context, 2**31 - 1)))
    print(f"wrote {file.name}: {file.stat().st_size / 1e6:.0f} MB")
    record: dict[str, object] = {"quantize": args.quantize, "bytes": file.stat().st_size}
    if llama_cpp.available():
        whole = 4 * parameters < 0.8 * machine(folder).host_available_bytes
        network = loading.load_model(str(folder), "float32" if whole else dtype).eval()
        record |= gguf_check.check(file, args.quantize, network, tokenizer)
        print(f"same tokens; divergence {record['divergence_of_the_file']:.1e} nats per token by {record['read_by']}")
    else:
        print(f"the file was not read by llama.cpp: {llama_cpp.INSTALL}")
    for weights in folder.glob("*.safetensors*"):
        weights.unlink()
    return record


def commands(folder: Path, args: ExportArguments, context: int) -> list[str]:
    """The line that serves the file on this machine, and the one that scores it as an arm of its own."""
    short = next(name for name, kind in llama_cpp.KINDS.items() if kind == args.quantize)
    file = shlex.quote(str(folder / f"{args.arm}-{args.quantize}.gguf"))
    return [
        f"llama-server --model {file} --jinja --host 127.0.0.1 --ctx-size {context} --temp 0",
        answer_again.command(Path(args.study_dir), f"{args.arm}_{short}", engine="gguf"),
    ]
