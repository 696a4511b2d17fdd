"""medsft: fair supervised fine-tuning of instruct models on patient-doctor dialogues.

Importing the package switches off the telemetry of the Hugging Face libraries, because the data is patients' words,
and keeps compiled DeepSpeed operators in one place.
"""

import os
import sys
from pathlib import Path

os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
_cache = Path(os.environ.get("MEDSFT_CACHE", Path.home() / ".cache" / "medsft"))
_python = f"py{sys.version_info.major}{sys.version_info.minor}"
os.environ.setdefault("TORCH_EXTENSIONS_DIR", str(_cache / "torch_extensions" / _python))

__version__ = "0.1.0"
