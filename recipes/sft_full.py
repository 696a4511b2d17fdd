"""Full fine-tuning: train every weight of an instruct model on the doctor's turns of the prepared split.

    python recipes/sft_full.py --config recipes/configs/demo/full.yaml           # a laptop, no GPU
    accelerate launch recipes/sft_full.py                                        # Mistral-7B, one 80 GB GPU
    accelerate launch --config_file accelerate_configs/zero3_offload.yaml \\
        recipes/sft_full.py --config recipes/configs/mistral_7b/full_offload.yaml   # states in host memory

Every field of trl.SFTConfig and trl.ModelConfig is an option too (https://huggingface.co/docs/trl/sft_trainer).
Writes model/, train.json and config.yaml into STUDY_DIR/ARM; interrupted, the same command continues.
"""

from pathlib import Path

from medsft.arguments import StudyArguments
from medsft.cli import run
from medsft.config import CONFIGS, command_line
from medsft.training import auto_options, preflight
from medsft.training.tuning import lr_sweep

DEFAULT = CONFIGS / "mistral_7b" / "full_8bit.yaml"


def main() -> None:
    argv = command_line(DEFAULT)
    preflight.check_machine(argv)
    argv += lr_sweep.tuned(argv)
    argv += auto_options.choose(argv)

    from medsft.patches import transformers

    transformers.import_losses()

    from medsft.evaluation import dev_answers
    from medsft.patches import deepspeed
    from medsft.training import option_checks, sft

    deepspeed.import_dynamo()
    parsed = sft.parse_recipe(argv)
    option_checks.check_full(*parsed)
    trainer = sft.train_arm(parsed, argv, "model", dev_answers.score)
    if trainer is None:  # done before
        return
    if trainer.is_world_process_zero():
        from medsft.reporting import model_card

        model_card.write(Path(str(trainer.args.output_dir)))
    sft.end(trainer)


if __name__ == "__main__":
    run(main, __doc__, StudyArguments)
