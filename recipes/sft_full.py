"""Full fine-tuning: train every weight of an instruct model on the doctor's turns of the prepared split.

    python recipes/sft_full.py --config recipes/configs/demo/full.yaml           # a laptop, no GPU
    accelerate launch recipes/sft_full.py                                        # Mistral-7B, one 80 GB GPU
    accelerate launch --config_file accelerate_configs/zero3_offload.yaml \\
        recipes/sft_full.py --config recipes/configs/mistral_7b/full_offload.yaml   # states in host memory

Every field of trl.SFTConfig and trl.ModelConfig is an option too (https://huggingface.co/docs/trl/sft_trainer).
Writes model/, train.json and config.yaml into STUDY_DIR/ARM; interrupted, the same command continues.
"""

from medsft.arguments import StudyArguments
from medsft.cli import run
from medsft.config import CONFIGS, parse, settings
from medsft.training import auto_options, preflight

DEFAULT = CONFIGS / "mistral_7b" / "full_8bit.yaml"


def main() -> None:
    preflight.check_machine(DEFAULT)
    auto_options.choose(DEFAULT)

    import torch._dynamo  # noqa: F401 - imported later, inside DeepSpeed's zero.Init, it fails with a signature mismatch
    from trl import ModelConfig, SFTConfig

    from medsft.distributed import deepspeed_config
    from medsft.memory import step_config
    from medsft.models import loading
    from medsft.training import micro_batch, sft, summary
    from medsft.training.dataset import load_data
    from medsft.training.record import record
    from medsft.training.run_folder import ensure_split, open_arm

    study, config, model_args = parsed = parse([StudyArguments, SFTConfig, ModelConfig], DEFAULT)
    preflight.check_full(study, config, model_args)
    ensure_split(study, config, DEFAULT)
    arm = open_arm(study, settings(parsed, DEFAULT), config.should_save)
    if arm.done:
        print(f"already done: {arm.folder}/train.json")
        return

    base = model_args.model_name_or_path
    deepspeed_config.fit_to_machine(arm, config, loading.load_config(base), study)
    data = load_data(study, config.max_length, base, config.chat_template_path)
    strategy = preflight.strategy_of(config, model_args.dtype)
    step = step_config.of_recipe(study, config, model_args)
    this_run = micro_batch.Run(strategy, base, config, step, data.longest, int(study.host_reserve_gb * 1e9))
    if study.auto_batch:
        micro_batch.choose_micro_batch(arm, this_run)
    saves = study.keep_model or config.save_strategy.value != "no"
    predicted = preflight.check_memory(this_run, saves)

    with micro_batch.explained(arm, this_run, study.auto_batch), deepspeed_config.swap_space(config, base):
        init = {"dtype": model_args.dtype, "attn_implementation": model_args.attn_implementation}
        trainer = sft.build_trainer(arm, data, study, base, config, init)
        summary.print_plan(trainer, data, study, predicted)

        wall = sft.train(trainer)
        if study.keep_model:
            sft.save(trainer, arm, data, "model")
        record(trainer, arm, study, data, base, predicted, wall)
    sft.end(trainer)


if __name__ == "__main__":
    run(main, __doc__, StudyArguments)
