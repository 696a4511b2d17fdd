"""medsft: fair supervised fine-tuning of instruct models on patient-doctor dialogues.

Importing the package switches off the telemetry of the Hugging Face libraries, because the data is patients' words,
keeps compiled DeepSpeed operators in one place, and keeps torch's threads from starving where other programs run.
"""

import os
import sys
import zlib
from pathlib import Path

os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# A thread of torch that is done waits for the others with its core busy, for up to 300,000 rounds by default: with one
# other program running, two threads took 37 s a step instead of 4 (LoRA, embedded model, 2 cores, 3 steps). At 10,000
# rounds it is 8 s, and 4 s as before where nothing else runs.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")
# The compiler's flags name the environment's path, and another path means compiling anew: one folder an environment,
# and its real path, however it was reached.
_cache = Path(os.environ.get("MEDSFT_CACHE", Path.home() / ".cache" / "medsft"))
_prefix = os.path.realpath(sys.prefix)
sys.path[:] = [p.replace(sys.prefix, _prefix, 1) if p.startswith(sys.prefix) else p for p in sys.path]
_environment = f"py{sys.version_info.major}{sys.version_info.minor}-{zlib.crc32(_prefix.encode()):08x}"
# Another ninja than the environment's own does not trust what this one compiled.
os.environ["PATH"] = f"{_prefix}/bin{os.pathsep}{os.environ.get('PATH', os.defpath)}"
os.environ.setdefault("TORCH_EXTENSIONS_DIR", str(_cache / "torch_extensions" / _environment))

__version__ = "0.1.0"
