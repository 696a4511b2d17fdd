"""What sft_lora.py and sft_full.py import before they load a model, for the process whose forks train.

Their warnings are silenced first: a fork finds them imported, and could not silence them any more.
"""

from medsft import terminal

terminal.quiet_libraries()

import peft  # noqa: E402, F401
import transformers.models.llama.modeling_llama  # noqa: E402, F401
import trl.trainer.sft_trainer  # noqa: E402, F401

import medsft.evaluation.dev_answers  # noqa: E402, F401
import medsft.reporting.model_card  # noqa: E402, F401
import medsft.training.option_checks  # noqa: E402, F401
import medsft.training.sft  # noqa: E402, F401
