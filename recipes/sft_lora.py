"""LoRA and QLoRA: train adapters of an instruct model on the doctor's turns of the prepared split.

    python recipes/sft_lora.py --config recipes/configs/demo/lora.yaml           # a laptop, no GPU
    accelerate launch recipes/sft_lora.py                                        # Mistral-7B, one 48 GB GPU
    accelerate launch recipes/sft_lora.py --config recipes/configs/mistral_7b/qlora.yaml --learning_rate 1e-4

Every field of trl.SFTConfig and trl.ModelConfig is an option too (https://huggingface.co/docs/trl/sft_trainer).
Writes adapter/, train.json and config.yaml into STUDY_DIR/ARM; interrupted, the same command continues.
"""

from medsft import acceleration, guards
from medsft.arguments import StudyArguments
from medsft.cli import CONFIGS, parse, run, settings

DEFAULT = CONFIGS / "mistral_7b" / "lora.yaml"


def main() -> None:
    guards.check_machine(DEFAULT)
    acceleration.choose(DEFAULT)

    from trl import ModelConfig, SFTConfig, get_peft_config

    from medsft import fallbacks, model, preview, training, training_step
    from medsft.arm import ensure_split, open_arm
    from medsft.record import record
    from medsft.training_data import load_data

    study, config, model_args = parsed = parse([StudyArguments, SFTConfig, ModelConfig], DEFAULT)
    guards.check_lora(study, config, model_args)
    ensure_split(study, config, DEFAULT)
    arm = open_arm(study, settings(parsed, DEFAULT), config.should_save)
    if arm.done:
        print(f"already done: {arm.folder}/train.json")
        return

    base = model_args.model_name_or_path
    data = load_data(study, config.max_length, base, config.chat_template_path)
    strategy = "qlora" if model_args.load_in_4bit else "lora"
    step = training_step.of_recipe(study, config, model_args)
    this_run = fallbacks.Run(strategy, base, config, step, data.longest, int(study.host_reserve_gb * 1e9))
    if study.auto_batch:
        fallbacks.choose_micro_batch(arm, this_run)
    predicted = guards.check_memory(this_run)

    with fallbacks.explained(arm, this_run, study.auto_batch):
        init = {"dtype": model_args.dtype, "attn_implementation": model_args.attn_implementation}
        arithmetic = study.bnb_4bit_compute_dtype or model_args.dtype
        nf4 = model.nf4(arithmetic, model_args.use_bnb_nested_quant) if model_args.load_in_4bit else None
        trainer = training.build_trainer(
            arm, data, study, base, config, init, peft_config=get_peft_config(model_args), quantization_config=nf4
        )
        preview.print_plan(trainer, data, study, predicted)

        wall = training.train(trainer)
        training.save(trainer, arm, data, "adapter")
        record(trainer, arm, study, data, base, predicted, wall)
    training.end(trainer)


if __name__ == "__main__":
    run(main, __doc__, StudyArguments)
