"""Train every weight of a decoder that this machine's memory cannot hold, by ZeRO-3 with AdamW's states on the disk.

    python recipes/train_beyond.py                                   # 12 bytes a parameter = 1.5 times the memory
    python recipes/train_beyond.py --data my_dialogues.jsonl --steps 5
    python recipes/train_beyond.py --times 0.02 --study_dir runs/beyond_small        # the same in two minutes

The source study adds up 12 bytes a parameter and concludes that what exceeds the memory cannot be trained. This script
trains a random Mistral of that size: it writes the weights (2 bytes a parameter on disk), runs sft_full.py on one
repeated batch of the prepared dialogues (16 bytes more while it trains), and tabulates need, prediction and
measurement. It writes full/train.json, beyond.json and beyond.md into
--study_dir, and deletes weights and states at the end.
"""

import shutil
import subprocess
import sys
from pathlib import Path

from medsft.arguments import BeyondArguments, DataArguments
from medsft.cli import run
from medsft.config import CONFIGS, parse
from medsft.distributed import deepspeed_ops
from medsft.errors import DoesNotFit, UserError
from medsft.hardware.specs import machine

ACCELERATE = Path(__file__).resolve().parent.parent / "accelerate_configs" / "zero3_nvme.yaml"


def main() -> None:
    (args,) = parse([BeyondArguments])
    if args.times <= 0 or args.steps < 1 or args.rows < 1:
        raise UserError("--times, --steps and --rows must be above 0")
    study, here = Path(args.study_dir), machine(args.study_dir)
    arm, weights = study / "full", study / "model"
    if (arm / "train.json").is_file():
        print(f"already done: {arm}/train.json")
        return

    from medsft.data.prepare import prepare
    from medsft.models import embedded, loading
    from medsft.models.parameter_counts import sizes_of
    from medsft.training import larger_than_memory

    tokenizer = loading.load_tokenizer(embedded.SMOLLM2)
    config = larger_than_memory.shape(round(args.times * here.host_bytes / larger_than_memory.FOOTPRINT), tokenizer)
    parameters = sizes_of(config).parameters
    claimed = larger_than_memory.FOOTPRINT * parameters
    print(
        f"{parameters:,} parameters: {claimed / 1e9:.1f} GB by the study's arithmetic, "
        f"{claimed / here.host_bytes:.2f} times the {here.host_bytes / 1e9:.1f} GB of memory here"
    )
    on_cpu = here.gpus == 0 or not deepspeed_ops.cuda_toolkit()
    if here.gpus and on_cpu:
        print("on the processor: beside a GPU, NVMe offload needs NVIDIA's CUDA toolkit, which is not here")
    if not weights.is_dir():
        larger_than_memory.check(parameters, here)
        print(f"drawing the weights: {2 * parameters / 1e9:.1f} GB into {weights}")
        larger_than_memory.write_random(config, tokenizer, weights, args.seed)
    prepare(DataArguments(study_dir=args.study_dir, data=args.data, max_length=args.max_length, max_rows=args.max_rows))

    status = subprocess.run(training(args, weights, on_cpu)).returncode
    if status:
        raise DoesNotFit(f"training ended with status {status} (its own message is above); {weights} is kept")
    result = larger_than_memory.summary(arm, here, parameters)
    print(larger_than_memory.write_table(result, study), end="")
    for folder in (weights, study / "nvme"):
        shutil.rmtree(folder, ignore_errors=True)
    falls = result["losses"][-1] < result["losses"][0]
    print(f"written: {study}/beyond.md; the loss {'falls' if falls else 'does not fall'}")


def training(args: BeyondArguments, weights: Path, on_cpu: bool) -> list[str]:
    """The command that trains: the shipped recipe under the shipped accelerate config."""
    options = {
        "config": CONFIGS / "beyond" / "full.yaml",
        "study_dir": args.study_dir,
        "nvme_path": Path(args.study_dir) / "nvme",
        "model_name_or_path": weights,
        "use_cpu": str(on_cpu).lower(),
        "max_length": args.max_length,
        "max_steps": args.steps,
        "max_train_rows": args.rows,
        "per_device_train_batch_size": args.rows,
        "learning_rate": args.learning_rate,
    }
    launch = [str(Path(sys.executable).parent / "accelerate"), "launch", "--config_file", str(ACCELERATE)]
    flags = [str(word) for name, value in options.items() for word in (f"--{name}", value)]
    return [*launch, str(Path(__file__).with_name("sft_full.py")), *flags]


if __name__ == "__main__":
    run(main, __doc__, BeyondArguments)
