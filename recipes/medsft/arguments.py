"""Options of the scripts as plain dataclasses. Nothing heavy is imported here, so `--help` is instant.

`study_dir` is the one folder that all stages of a study share: data/, plan.json, one folder per arm, report/.
"""

from dataclasses import dataclass, field
from typing import Any


def option(default: Any, text: str) -> Any:
    """A dataclass field with its help text; lists are copied for each instance."""
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata={"help": text})
    return field(default=default, metadata={"help": text})


@dataclass
class DataArguments:
    """Options of prepare_data.py."""

    study_dir: str = option("runs/demo", "folder of the study; the split is written to its data/")
    data: str = option(
        "sample", "'sample' (the embedded dialogues), a local .jsonl/.json/.csv/.parquet file, or a hub dataset"
    )
    data_split: str = option("train", "which split of a hub dataset to read")
    model_name_or_path: str = option(
        "embedded/SmolLM2-135M-Instruct", "whose tokenizer and chat template count the tokens"
    )
    chat_template_path: str | None = option(None, "a .jinja training template of your own, with {% generation %} marks")
    max_length: int = option(512, "token budget of one dialogue; the patient's side is shortened, an answer never is")
    max_rows: int | None = option(None, "read at most this many rows, drawn by seed; all if not given")
    dev_fraction: float = option(0.1, "share of the groups held out for choosing checkpoints")
    test_fraction: float = option(0.2, "share of the groups held out for the comparison")
    near_duplicate: float = option(0.7, "Jaccard similarity of patient messages from which two rows share a group")
    max_rejected: float = option(0.2, "stop when more than this share of the rows cannot be read")
    seed: int = option(42, "seed of the split")
    preview: int = option(0, "print this many rows with the tokens that carry loss marked")


@dataclass
class StudyArguments:
    """Our own options of sft_lora.py and sft_full.py; everything else is TRL's SFTConfig and ModelConfig."""

    study_dir: str = option("runs/mistral_7b", "folder of the study, as written by prepare_data.py")
    arm: str = option("lora", "name of this arm: its folder inside study_dir")
    max_train_rows: int | None = option(None, "train on the first this many rows of the shuffled split")
    max_dev_rows: int | None = option(None, "measure the dev loss on at most this many rows")
    host_reserve_gb: float = option(2.0, "host memory in GB to leave free; training is refused below it")


@dataclass
class PlanArguments:
    """Options of plan_memory.py."""

    model_name_or_path: str = option(
        "embedded/SmolLM2-135M-Instruct", "hub id, local folder with a config.json, or an embedded model"
    )
    output_dir: str | None = option(None, "where plan.json is written; default: study_dir")
    study_dir: str = option("runs/demo", "folder of the study")
    gpu: str | None = option(
        None, "GPU name such as a100-80gb, h100, rtx4090, none; read from this machine if not given"
    )
    gpus: int | None = option(None, "number of GPUs; read from this machine if not given")
    host: str | None = option(None, "host memory, e.g. 167GB; read from this machine if not given")
    disk: str | None = option(None, "free disk, e.g. 2TB; read from this machine if not given")
    per_device_train_batch_size: int = option(4, "rows per device and step")
    max_length: int = option(512, "tokens per row")
    lora_r: int = option(16, "rank of the adapters")
    as_published: bool = option(False, "also print the study's own Table 4 arithmetic")
    ladder_table: str | None = option(None, "only write the table of seven machines between its marks in this file")


@dataclass
class GenerateArguments:
    """Options of generate.py."""

    study_dir: str = option("runs/demo", "folder of the study")
    arm: str = option("baseline", "which arm answers: baseline, or the name of a trained arm")
    model_name_or_path: str = option(
        "embedded/SmolLM2-135M-Instruct", "base model of the baseline arm; a trained arm knows its own"
    )
    dtype: str = option(
        "auto", "precision of the weights: auto, bfloat16 or float32; auto: bfloat16 where the processor computes in it"
    )
    max_rows: int | None = option(None, "answer at most this many test rows, the first of the shuffled split")
    max_new_tokens: int = option(256, "longest answer in tokens")
    batch_size: int = option(16, "rows answered at once")
    do_sample: bool = option(False, "sample instead of greedy decoding")
    temperature: float = option(0.7, "temperature, with do_sample")
    top_p: float = option(0.9, "nucleus, with do_sample")
    seed: int = option(42, "seed, with do_sample")


@dataclass
class ScoreArguments:
    """Options of score.py."""

    study_dir: str = option("runs/demo", "folder of the study; every arm with a generations.jsonl is scored")
    bert_model: str = option(
        "embedded/all-MiniLM-L6-v2", "encoder of BERTScore: hub id, local folder, or the embedded one"
    )
    bert_layer: int | None = option(None, "hidden layer BERTScore reads; the last one if not given")
    bert_batch_size: int = option(8, "pairs per BERTScore batch; small batches pad less")
    resamples: int = option(10_000, "bootstrap resamples over groups")
    confidence: float = option(0.95, "level of the intervals")
    seed: int = option(42, "seed of the resampling and of the shuffled floor")


@dataclass
class ReportArguments:
    """Options of report.py."""

    study_dir: str = option("runs/demo", "folder of the study")
    title: str = option("Does fine-tuning make this model answer patients better?", "heading of the report")
    examples: int = option(20, "how many test rows are shown with every arm's answer")
    seed: int = option(42, "seed that draws the examples")
