"""LoRA and QLoRA: train adapters of an instruct model on the doctor's turns of the prepared split.

    python recipes/sft_lora.py --config recipes/configs/demo/lora.yaml           # a laptop, no GPU
    accelerate launch recipes/sft_lora.py                                        # Mistral-7B, one 48 GB GPU
    accelerate launch recipes/sft_lora.py --config recipes/configs/mistral_7b/qlora.yaml --learning_rate 1e-4

Every field of trl.SFTConfig and trl.ModelConfig is an option too (https://huggingface.co/docs/trl/sft_trainer).
Writes adapter/, train.json and config.yaml into STUDY_DIR/ARM; interrupted, the same command continues.
"""

from medsft.arguments import StudyArguments
from medsft.cli import run
from medsft.config import CONFIGS, parse, settings
from medsft.training import auto_options, preflight

DEFAULT = CONFIGS / "mistral_7b" / "lora.yaml"


def main() -> None:
    preflight.check_machine(DEFAULT)
    auto_options.choose(DEFAULT)

    from trl import ModelConfig, SFTConfig, get_peft_config

    from medsft.memory import step_config
    from medsft.models import loading
    from medsft.training import micro_batch, sft, summary
    from medsft.training.dataset import load_data
    from medsft.training.record import record
    from medsft.training.run_folder import ensure_split, open_arm

    study, config, model_args = parsed = parse([StudyArguments, SFTConfig, ModelConfig], DEFAULT)
    preflight.check_lora(study, config, model_args)
    ensure_split(study, config, DEFAULT)
    arm = open_arm(study, settings(parsed, DEFAULT), config.should_save)
    if arm.done:
        print(f"already done: {arm.folder}/train.json")
        return

    base = model_args.model_name_or_path
    data = load_data(study, config.max_length, base, config.chat_template_path)
    strategy = "qlora" if model_args.load_in_4bit else "lora"
    step = step_config.of_recipe(study, config, model_args)
    this_run = micro_batch.Run(strategy, base, config, step, data.longest, int(study.host_reserve_gb * 1e9))
    if study.auto_batch:
        micro_batch.choose_micro_batch(arm, this_run)
    predicted = preflight.check_memory(this_run)

    with micro_batch.explained(arm, this_run, study.auto_batch):
        init = {"dtype": model_args.dtype, "attn_implementation": model_args.attn_implementation}
        arithmetic = study.bnb_4bit_compute_dtype or model_args.dtype
        nf4 = loading.nf4(arithmetic, model_args.use_bnb_nested_quant) if model_args.load_in_4bit else None
        trainer = sft.build_trainer(
            arm, data, study, base, config, init, peft_config=get_peft_config(model_args), quantization_config=nf4
        )
        summary.print_plan(trainer, data, study, predicted)

        wall = sft.train(trainer)
        sft.save(trainer, arm, data, "adapter")
        record(trainer, arm, study, data, base, predicted, wall)
    sft.end(trainer)


if __name__ == "__main__":
    run(main, __doc__, StudyArguments)
