"""LoRA and QLoRA: train adapters of an instruct model on the doctor's turns of the prepared split.

    python recipes/sft_lora.py --config recipes/configs/demo/lora.yaml           # a laptop, no GPU
    accelerate launch recipes/sft_lora.py                                        # Mistral-7B, one 48 GB GPU
    accelerate launch recipes/sft_lora.py --config recipes/configs/mistral_7b/qlora.yaml --learning_rate 1e-4

Every field of trl.SFTConfig and trl.ModelConfig is an option too (https://huggingface.co/docs/trl/sft_trainer).
Writes adapter/, train.json and config.yaml into STUDY_DIR/ARM; interrupted, the same command continues.
"""

from pathlib import Path

from medsft.arguments import StudyArguments
from medsft.cli import run
from medsft.config import CONFIGS, command_line
from medsft.training import auto_options, preflight
from medsft.training.tuning import lr_sweep

DEFAULT = CONFIGS / "mistral_7b" / "lora.yaml"


def main() -> None:
    argv = command_line(DEFAULT)
    preflight.check_machine(argv)
    argv += lr_sweep.tuned(argv)
    argv += auto_options.choose(argv)

    from medsft.patches import transformers

    transformers.import_losses()

    from trl import get_peft_config

    from medsft.evaluation import dev_answers
    from medsft.models import loading
    from medsft.training import option_checks, sft
    from medsft.training.trainer import Adapters

    study, config, model_args = parsed = sft.parse_recipe(argv)
    option_checks.check_lora(study, config, model_args)
    arithmetic = study.bnb_4bit_compute_dtype or str(model_args.dtype)
    nf4 = loading.nf4(arithmetic, model_args.use_bnb_nested_quant) if study.strategy == "qlora" else None
    adapters: Adapters = {"peft_config": get_peft_config(model_args), "quantization_config": nf4}
    trainer = sft.train_arm(parsed, argv, "adapter", dev_answers.score, adapters)
    if trainer is None:  # done before
        return
    if trainer.is_world_process_zero():
        from medsft.reporting import model_card

        model_card.write(Path(str(trainer.args.output_dir)))
    sft.end(trainer)


if __name__ == "__main__":
    run(main, __doc__, StudyArguments)
