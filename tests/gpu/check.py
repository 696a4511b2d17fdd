"""What the rows of the check share: the device, the folder, models of the study's shape, a run of a shipped recipe."""

import os
import shutil
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpu.run import Finished, run
from gpu.sizing import FEW, MISTRAL_7B, Shape, flops_per_token, layers_offloaded, layers_that_fit
from medsft.files import read_json, write_json
from medsft.hardware.specs import Hardware

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / "recipes" / "configs" / "mistral_7b"
TOY = Shape(213_248, 2 * 32_000 * 128 + 128, 4, 128)  # of `device.study_shape` for a processor
# Four steps on the same rows at a rate that shows whether the loss falls. What is not named is as shipped.
SHORT = {"max_steps": 4, "max_train_rows": 16, "max_dev_rows": 4, "eval_steps": 4, "logging_steps": 1,
         "lr_scheduler_type": "constant", "warmup_steps": 0, "save_strategy": "no", "keep_model": "false",
         "disable_tqdm": "true"}  # fmt: skip
ON_CPU = {"use_cpu": "true", "dataloader_pin_memory": "false", "optim": "adamw_torch", "max_train_rows": 2,
          "per_device_train_batch_size": 2, "rows_per_step": 2}  # fmt: skip
Row = dict[str, Any]


class NotMeasuredError(Exception):
    """Why a row is left out: it does not fit, something is not installed, the time is over."""


class RowFailedError(Exception):
    """Why a row that ran did not pass."""


@dataclass
class Check:
    """`ends`: time.monotonic() at the end of the budget. `limit`: seconds of one command. `tflops`: the device's, once
    measured. `most`: layers of a model.
    """

    folder: Path
    on_cpu: bool
    hardware: Hardware
    tokenizer: str
    ends: float
    limit: float = 600.0
    tflops: float = 0.0
    most: int = 10**6

    @property
    def shape(self) -> Shape:
        return TOY if self.on_cpu else MISTRAL_7B

    @property
    def study(self) -> Path:
        return self.folder / "study"

    def layers(self, held: float) -> int:
        """Layers of a row whose weights take `held` bytes each. Raises NotMeasuredError where not even one fits."""
        free, drawn = self.hardware.device_available_bytes, self.folder / "weights" / "config.json"
        fit = self.shape.layers if self.on_cpu else layers_that_fit(self.shape, held, free, 4 * 1024)
        most = read_json(drawn)["num_hidden_layers"] if drawn.is_file() else self.shape.layers
        return some(min(fit, most, self.most))

    def few_layers(self, offloads: bool) -> int:
        """Layers of a row that needs only a small model, in host memory if it offloads. Raises NotMeasuredError."""
        host = layers_offloaded(self.shape, self.hardware.host_available_bytes)
        return 2 if self.on_cpu else min(self.layers(2.0), some(host) if offloads else FEW)

    def run(self, words: list[Any], name: str, stop_at: Path | None = None) -> Finished:
        """Run a command. Raises RowFailedError, or NotMeasuredError where memory or time are too short."""
        limit, log = min(self.limit, self.ends - time.monotonic()), self.folder / "logs" / f"{name}.log"
        done = run([str(word) for word in words], log, limit, dict(os.environ), stop_at)
        if done.status == 3:
            raise NotMeasuredError(done.last)
        if done.status is None and limit < self.limit:
            raise NotMeasuredError(f"cut after {done.seconds:.0f} s, at the end of the time given (MINUTES)")
        if done.failure() and not (stop_at and done.status == 130):
            raise RowFailedError(f"{done.failure()} ({log})")
        return done

    def model(self, layers: int) -> Path:
        """A folder with the first layers of the weights that were drawn, by links: no byte is copied."""
        from safetensors import safe_open

        weights, folder = self.folder / "weights", self.folder / "models" / f"{layers}_layers"
        if (folder / "config.json").is_file():
            return folder
        shutil.copytree(weights, folder, ignore=shutil.ignore_patterns("*.safetensors", "config.json"))
        names: dict[str, str] = {}
        for file in ["outside", *(f"layer-{number:03}" for number in range(layers))]:
            link = folder / f"{file}.safetensors"
            link.symlink_to(weights / link.name)
            with safe_open(link, "numpy") as tensors:
                names |= dict.fromkeys(tensors.keys(), link.name)
        size = {"total_size": 2 * self.shape.parameters(layers)}
        write_json(folder / "model.safetensors.index.json", {"metadata": size, "weight_map": names})
        write_json(folder / "config.json", {**read_json(weights / "config.json"), "num_hidden_layers": layers})
        return folder

    def train(
        self, arm: str, recipe: str, layers: int, *, launch: str = "", stop_at: Path | None = None, afresh: bool = True,
        **options: Any,
    ) -> tuple[Finished, Row]:  # fmt: skip
        """Train an arm by a shipped recipe, under accelerate's `launch` config. Stopped, it has no record: {}."""
        if afresh:
            shutil.rmtree(self.study / arm, ignore_errors=True)
        adapts = "lora" in recipe
        script = ROOT / "recipes" / ("sft_lora.py" if adapts else "sft_full.py")
        # Random weights of 7 billion diverged at 2e-4 when all were trained (H200, 8-bit AdamW: 11.1, 9.0, 12.3, 13.8);
        # pure bf16 drops updates below 2**-9 of a weight, so much less would not be seen
        flags = {"config": CONFIGS / f"{recipe}.yaml", "study_dir": self.study, "arm": arm}
        flags |= {"model_name_or_path": self.model(layers), "learning_rate": 1e-3 if adapts or self.on_cpu else 3e-5}
        flags |= SHORT | (ON_CPU if self.on_cpu else {}) | options
        config = ["-m", "accelerate.commands.launch", "--config_file", ROOT / "accelerate_configs" / launch]
        words = [word for name, value in flags.items() for word in (f"--{name}", value)]
        done = self.run([sys.executable, *(config if launch else []), script, *words], arm, stop_at)
        record = self.study / arm / "train.json"
        return done, read_json(record) if record.is_file() else {}

    def measured(self, record: Row, layers: int, trains_all: bool = False, wrapped: str = "none") -> Row:
        """The row of a training. Raises RowFailedError where the loss does not fall, or another engine trained."""
        losses = [row["loss"] for row in record["history"] if "loss" in row]
        tokens, seconds = record["tokens_seen"] / record["steps"], statistics.median(record["step_seconds"][1:])
        work = flops_per_token(self.shape, layers, trains_all) * tokens / seconds
        if record["wrapped_by"] != wrapped:
            raise RowFailedError(f"wrapped by {record['wrapped_by']}, not by {wrapped}")
        if not losses[-1] < losses[0]:  # false for what is not a number, too
            raise RowFailedError(f"the loss does not fall on the same rows: {losses}")
        return {
            "layers": layers,
            "parameters": record["total_parameters"],
            "strategy": record["settings"].get("strategy"),
            "wrapped_by": record["wrapped_by"],
            "micro_batch": record["micro_batch"],
            "predicted": record["predicted_memory"],
            "measured": record["peak_memory"],
            "tokens_per_step": tokens,
            "seconds_per_step": seconds,
            "tokens_per_second": tokens / seconds,
            "share_of_peak": work / (self.tflops * 1e12) if self.tflops else None,
            "losses": losses,
            "train_json": str(self.study / record["arm"] / "train.json"),
        }


def some(layers: int) -> int:
    if layers < 1:
        raise NotMeasuredError("not one layer of the study's model fits the free memory")
    return layers
