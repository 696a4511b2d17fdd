"""medsft: fair supervised fine-tuning of instruct models on patient-doctor dialogues.

Importing the package switches off the telemetry of the Hugging Face libraries, because the data is patients' words.
"""

import os

os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

__version__ = "0.1.0"
