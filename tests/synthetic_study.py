"""A study folder with the files that the real stages write, for the tests of their readers."""

import json
import random
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from medsft.arguments import ReportArguments

METRICS = {
    "rouge1": 0.22,
    "rouge2": 0.035,
    "rougeL": 0.13,
    "bertscore_f1": 0.42,
    "bertscore_f1_rescaled": 0.15,
    "rouge1_precision": 0.25,
    "rouge1_recall": 0.2,
    "end_of_turn": 0.9,
    "length_ratio": 1.4,
}
PRIMARY = ("rouge1", "rouge2", "rougeL", "bertscore_f1")
NAIVE_BASELINES = {"constant": 0.9, "shuffled": 0.8, "echo": 0.7, "nearest": 1.05}
GAINS = {"lora": 0.04, "qlora": 0.03, "full": 0.0005}
HOSTILE = "<script>alert(1)</script> | ![x](http://evil.example/x.png) <img src=http://evil.example/y onerror=alert(2)>"
SIZE = 44


def dump(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")


def around(mean: float, half: float = 0.015) -> dict[str, float]:
    return {"mean": mean, "low": mean - half, "high": mean + half}


def write_arm(folder: Path, gain: float, hostile: str) -> None:
    rng = random.Random(folder.name)
    rows = [
        {
            "id": f"row-{i}",
            "group": f"g{i // 2}",
            "source": "sample",
            "prompt": hostile
            if i == 3
            else f"Patient message {i}: " + "my knee hurts when I walk " * rng.randint(1, 12),
            "reference": f"Reference {i}: " + "rest it and see someone if it swells " * rng.randint(1, 8),
            "prediction": f"{folder.name} says {hostile}"
            if i == 3
            else f"{folder.name} answer {i} " + "rest " * rng.randint(4, 90),
            "stopped": i % 5 != 0,
            "new_tokens": 40 + i,
        }
        for i in range(SIZE)
    ]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "generations.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    metrics = {name: around(value + gain) for name, value in METRICS.items()}
    dump(folder / "scores.json", {"arm": folder.name, "n": SIZE, "metrics": metrics, "settings": {}})
    versions = {"python": "3.11.2", "torch": "2.13.0"}
    dump(folder / "generation.json", {"base_model": "toy-135M", "settings": {"batch_size": 16}, "versions": versions})


def write_train(folder: Path, steps: int, slope: float, device_bytes: int) -> None:
    history: list[dict[str, float]] = [{"step": 0, "eval_loss": 2.6}]
    for step in range(1, steps + 1):
        history.append({"step": step, "loss": 2.6 - slope * step**0.5, "learning_rate": 1e-4})
        if step % 5 == 0:
            history.append({"step": step, "eval_loss": 2.6 - slope * 0.8 * step**0.5})
    total, trainable = 134_515_008, 134_515_008 if folder.name.startswith("full") else 4_884_480
    dump(
        folder / "train.json",
        {
            "arm": folder.name,
            "base_model": "toy-135M",
            "total_parameters": total,
            "trainable_parameters": trainable,
            "trainable_percent": 100 * trainable / total,
            "steps": steps,
            "tokens_seen": 41_234,
            "answer_tokens_seen": 20_871,
            "wall_seconds": 93.4,
            "tokens_per_second": 441.5,
            "best_step": 20,
            "seed": 42,
            "peak_memory": {"device_bytes": device_bytes, "host_bytes": 3_100_000_000},
            "predicted_memory": {"device_bytes": device_bytes, "host_bytes": 2_900_000_000},
            "history": history,
            "versions": {"python": "3.11.2", "torch": "2.13.0", "trl": "1.16.0"},
            "fingerprint": "0" * 16,
        },
    )
    (folder / "config.yaml").write_text("learning_rate: 0.0002\nlora_r: 16\n", encoding="utf-8")


def write_data_report(study: Path) -> None:
    rng = random.Random(1)
    lengths = [min(512, int(rng.lognormvariate(5.2, 0.5))) for _ in range(230)]
    report = {
        "rows_read": 360,
        "rows_kept": 320,
        "dropped": {"empty_answer": 8, "exact_duplicate": 32},
        "repaired": {"encoding": 5},
        "redacted": {"url": 11, "phone": 7, "name": 24},
        "duplicates": {"exact": 32, "near": 18, "groups": 297},
        "splits": {
            "train": {"rows": 230, "groups": 208},
            "dev": {"rows": 32, "groups": 30},
            "test": {"rows": 58, "groups": 59},
        },
        "tokens": {"train": {"prompt": 21_000, "answer": 20_871, "total": 41_871, "max": max(lengths)}},
        "truncated": {"prompt": 6, "answer": 0},
        "fingerprint": "1" * 16,
        "sources": {
            "clinic": {"read": 240, "rejected": 5, "exact": 30, "near": 11, "kept": 205},
            "forum <b>": {"read": 120, "rejected": 3, "exact": 2, "near": 7, "kept": 115},
        },
        "samples": {"html": {"before": "Rest.<br>Drink <script>", "after": "Rest.\nDrink"}},
        "leaking": 0,
        "arguments": {"data": "sample", "max_length": 512},
        "lengths": lengths,
    }
    dump(study / "data" / "data_report.json", report)


def write_plan(study: Path) -> None:
    parts = {"weights": 540_000_000, "gradients": 540_000_000, "optimizer": 1_080_000_000, "activations": 300_000_000}
    rows = [
        {"name": "lora", "device_bytes": parts, "host_bytes": 2_900_000_000, "fits": True, "reason": "leaves 9.0 GB"},
        {
            "name": "full",
            "device_bytes": parts,
            "host_bytes": 39_000_000_000,
            "fits": False,
            "reason": "needs 15.0 GB more",
        },
    ]
    dump(
        study / "plan.json",
        {"hardware": {"gpus": 0}, "strategies": rows, "recommended": "lora", "recommended_reason": "it fits"},
    )


def write_comparison(study: Path, arms: list[str]) -> None:
    naive = {
        name: {"n": SIZE, "metrics": {m: around(v * share) for m, v in METRICS.items()}}
        for name, share in NAIVE_BASELINES.items()
    }
    rows = [
        {
            "metric": metric,
            "baseline": "baseline",
            "arm": arm,
            "difference": GAINS[arm],
            "low": GAINS[arm] - 0.012,
            "high": GAINS[arm] + 0.012,
            "p": 0.0004 if GAINS[arm] > 0.01 else 0.7,
            "p_holm": 0.0048 if GAINS[arm] > 0.01 else 1.0,
            "n": SIZE,
        }
        for arm in arms
        if arm != "baseline"
        for metric in PRIMARY
    ]
    against = [
        {**row, "baseline": name, "arm": arm, "metric": metric, "difference": gap}
        | {"low": gap - 0.012, "high": gap + 0.012, "p_holm": 0.001 if abs(gap) > 0.012 else 1.0}
        for row in rows[:1]
        for arm in arms
        for name, share in NAIVE_BASELINES.items()
        for metric in PRIMARY
        for gap in [METRICS[metric] * (1 - share) + GAINS.get(arm, 0.0)]
    ]
    found = {"floors": naive, "comparisons": rows, "settings": {"confidence": 0.95, "seed": 42}}
    terms = {"train_rows": 48, "max_new_tokens": 96, "tokenizer": "toy-135M"}
    dump(study / "comparison.json", found | {"floor_comparisons": against, "floor_terms": terms})


def make_study(
    folder: Path, arms: tuple[str, ...] = ("baseline", "lora", "qlora", "full"), hostile: str = HOSTILE
) -> Path:
    """A study folder with the files that the real stages write."""
    study = folder / "synthetic"
    write_data_report(study)
    write_plan(study)
    for arm in arms:
        write_arm(study / arm, GAINS.get(arm, 0.0), hostile)
        if arm != "baseline":
            write_train(study / arm, 30, 0.05 + GAINS[arm], 0)
    if "full" in arms:
        write_train(study / "full_zero3", 4, 0.0501 + GAINS["full"], 0)
    write_comparison(study, list(arms))
    return study


def arguments(study: Path, **options: Any) -> ReportArguments:
    return ReportArguments(study_dir=str(study), **options)


def strict_json(path: Path) -> Any:
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} in {path}")

    return json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)


class Page(HTMLParser):
    """Tags, addresses, visible text and unclosed elements of a page."""

    VOID = ("meta", "img", "br", "link", "input")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.events: list[str] = []
        self.titles: list[str] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "action", "data")]
        self.events += [name for name, _ in attrs if name.startswith("on")]
        self.titles += [value or "" for name, value in attrs if name == "title"]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data
