"""What sft_lora.py and sft_full.py import before they load a model, for the process whose forks train.

Their warnings are silenced first: a fork finds them imported, and could not silence them any more.
"""

from importlib import import_module

from medsft import terminal

LIBRARIES = (
    "trl.trainer.sft_trainer",
    "transformers.models.llama.modeling_llama",
    "peft",
    "medsft.training.sft",
    "medsft.training.option_checks",
    "medsft.evaluation.dev_answers",
    "medsft.reporting.model_card",
)

terminal.quiet_libraries()
for name in LIBRARIES:
    import_module(name)
