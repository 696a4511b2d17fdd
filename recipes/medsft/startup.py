"""What makes a script start sooner: importing what sft_lora.py needs took 12.9 s on two slow cores, and takes 8.9 s.

Of that, 1.9 s is the compiler left out and 2.1 s the garbage collector (interleaved, four times each).
"""

import gc
import os
import shutil


def import_quickly(compiles: bool) -> None:
    """Keep torch's compiler out of the process, and the garbage collector still until options are parsed.

    bitsandbytes wraps plain operators in torch.compile as it is imported, and that imports 500 modules of the compiler.
    Without a GPU nothing here uses them, unless the user `compiles`.
    """
    gc.disable()  # a million objects are made that stay: looking through them again and again finds nothing
    if compiles:
        os.environ["TORCHDYNAMO_DISABLE"] = "0"  # a script that started this one may have left it out
    elif shutil.which("nvidia-smi") is None:
        os.environ["TORCHDYNAMO_DISABLE"] = "1"
