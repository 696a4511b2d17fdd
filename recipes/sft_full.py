"""Full fine-tuning: train every weight of an instruct model on the doctor's turns of the prepared split.

    python recipes/sft_full.py --config recipes/configs/demo/full.yaml           # a laptop, no GPU
    accelerate launch recipes/sft_full.py                                        # Mistral-7B, one 80 GB GPU
    accelerate launch --config_file accelerate_configs/zero3_offload.yaml \\
        recipes/sft_full.py --config recipes/configs/mistral_7b/full_offload.yaml   # states in host memory

Every field of trl.SFTConfig and trl.ModelConfig is an option too (https://huggingface.co/docs/trl/sft_trainer).
Writes model/, train.json and config.yaml into STUDY_DIR/ARM; interrupted, the same command continues.
"""

from medsft import acceleration, guards
from medsft.arguments import StudyArguments
from medsft.cli import CONFIGS, parse, run, settings

DEFAULT = CONFIGS / "mistral_7b" / "full_8bit.yaml"


def main() -> None:
    guards.check_machine(DEFAULT)
    acceleration.choose(DEFAULT)

    import torch._dynamo  # noqa: F401 - imported later, inside DeepSpeed's zero.Init, it fails with a signature mismatch
    from trl import ModelConfig, SFTConfig

    from medsft import fallbacks, model, offload, preview, training, training_step
    from medsft.arm import ensure_split, open_arm
    from medsft.record import record
    from medsft.training_data import load_data

    study, config, model_args = parsed = parse([StudyArguments, SFTConfig, ModelConfig], DEFAULT)
    guards.check_full(study, config, model_args)
    ensure_split(study, config, DEFAULT)
    arm = open_arm(study, settings(parsed, DEFAULT), config.should_save)
    if arm.done:
        print(f"already done: {arm.folder}/train.json")
        return

    base = model_args.model_name_or_path
    offload.fit_to_machine(arm, config, model.load_config(base), study)
    data = load_data(study, config.max_length, base, config.chat_template_path)
    strategy = guards.strategy_of(config, model_args.dtype)
    step = training_step.of_recipe(study, config, model_args)
    this_run = fallbacks.Run(strategy, base, config, step, data.longest, int(study.host_reserve_gb * 1e9))
    if study.auto_batch:
        fallbacks.choose_micro_batch(arm, this_run)
    saves = study.keep_model or config.save_strategy.value != "no"
    predicted = guards.check_memory(this_run, saves)

    with fallbacks.explained(arm, this_run, study.auto_batch), offload.swap_space(config, base):
        init = {"dtype": model_args.dtype, "attn_implementation": model_args.attn_implementation}
        trainer = training.build_trainer(arm, data, study, base, config, init)
        preview.print_plan(trainer, data, study, predicted)

        wall = training.train(trainer)
        if study.keep_model:
            training.save(trainer, arm, data, "model")
        record(trainer, arm, study, data, base, predicted, wall)
    training.end(trainer)


if __name__ == "__main__":
    run(main, __doc__, StudyArguments)
