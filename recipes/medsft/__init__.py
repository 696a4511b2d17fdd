"""medsft: fair supervised fine-tuning of instruct models on patient-doctor dialogues.

Importing the package switches off the telemetry of the Hugging Face libraries and of vLLM, because the data is
patients' words. It also names the folder of compiled DeepSpeed operators and keeps torch's threads from starving beside
other programs.
"""

import os
import sys
import zlib
from pathlib import Path

os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")  # vLLM would tell its authors the model's kind and the machine
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# A torch thread that is done waits for the others at full speed, for up to 300,000 rounds by default. With one other
# program running, two threads took 37 s a step instead of 4 (LoRA, embedded model, 2 cores, 3 steps). At 10,000 rounds
# it is 8 s, and 4 s as before where nothing else runs.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")
# The compiler's flags contain the path of the environment, and other flags mean compiling again: one folder for each
# path that an environment is reached by.
_cache = Path(os.environ.get("MEDSFT_CACHE", Path.home() / ".cache" / "medsft"))
_environment = f"py{sys.version_info.major}{sys.version_info.minor}-{zlib.crc32(sys.prefix.encode()):08x}"
os.environ.setdefault("TORCH_EXTENSIONS_DIR", str(_cache / "torch_extensions" / _environment))

__version__ = "0.1.0"
