"""How many of a study's rows its arms can train on in a few minutes of this processor.

    python -m medsft.training.tuning.rows_in_time recipes/configs/demo runs/demo 5

Prints the number, the same for every arm of the study: it is decided once and kept in STUDY_DIR/train_rows.json. The
reason goes to stderr.
"""

import statistics
import sys
from collections.abc import Mapping
from pathlib import Path

from medsft.cli import run
from medsft.config import read_config
from medsft.errors import UserError
from medsft.files import read_json, write_json
from medsft.records import DataReport

ARMS = ("lora", "qlora", "full")
OPERATIONS = 4 + 4 + 6  # a weight and token, of LoRA, QLoRA and full fine-tuning together
SHARE = 0.3  # of the speed of matrix products; `make bench` measured 0.34 to 0.59, a sweep on a shared machine 0.12
LEAST = 48  # rows: twelve steps show that everything works, and claim nothing


def main() -> None:
    if len(sys.argv) != 4:
        raise UserError("give the folder of the recipes, that of the study, and the minutes for all three arms")
    recipes, study, minutes = Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3])
    kept, prepared = study / "train_rows.json", study / "data" / "data_report.json"
    if not kept.exists():
        study.mkdir(parents=True, exist_ok=True)
        report = read_json(prepared) if prepared.exists() else None
        chosen = decide(recipes, report, minutes, speeds(study / "sweep"))
        write_json(kept, {**chosen, "minutes": minutes})
    found = read_json(kept)
    print("max_train_rows {rows}: {reason}".format(**found), file=sys.stderr)
    if found["minutes"] != minutes:
        print(f"the arms of {study} keep these rows; name another study for {minutes:g} minutes", file=sys.stderr)
    print(found["rows"])


def speeds(sweep: Path) -> dict[str, float]:
    """Tokens a second of each arm, the median of its trials in a sweep; {} where an arm has none.

    The trials of full fine-tuning are without offload, which the demo then has where it can.
    """
    found = {}
    for arm in ARMS:
        trials = [read_json(path)["tokens_per_second"] for path in sweep.glob(f"{arm}_[0-9]*/train.json")]
        measured = [speed for speed in trials if speed]
        if not measured:
            return {}
        found[arm] = statistics.median(measured)
    return found


def decide(
    recipes: Path, report: DataReport | None, minutes: float, measured: Mapping[str, float]
) -> dict[str, object]:
    """{'rows', 'reason'}: the training rows that the arms train on in time, at least 48 and at most all.

    By the speeds that the sweep `measured`, else by the speed of matrix products. 48 where the rows (`report`) are not
    prepared, or the size of the model is not known here.
    """
    from medsft.hardware import matmul_benchmark
    from medsft.models.parameter_counts import known_config, sizes_of

    settings = read_config(["--config", str(recipes / "lora.yaml")])
    name, per_step = str(settings["model_name_or_path"]), int(settings["rows_per_step"])
    config = known_config(name)
    if config is None or report is None:
        return {"rows": LEAST, "reason": "the rows or the size of the model were not known"}
    there = report["splits"]["train"]["rows"]
    tokens = report["tokens"]["train"]["total"] / there
    if measured:
        rows = int(minutes * 60 / sum(tokens / speed for speed in measured.values()))
        how = f"the sweep's {', '.join(f'{speed:.0f}' for speed in measured.values())} tokens a second"
    else:
        speed = max(matmul_benchmark.measured().values())
        rows = fitting(minutes, speed, sizes_of(config).parameters, tokens)
        how = f"{SHARE:.0%} of the {speed:.0f} GFLOP/s measured here"
    taken = min(there, max(LEAST, rows // per_step * per_step))
    return {"rows": taken, "reason": f"of {there}, all arms in {minutes:g} minutes at {how}"}


def fitting(minutes: float, speed: float, parameters: int, tokens: float) -> int:
    """Rows of `tokens` each that all arms train on in `minutes` at SHARE of `speed` GFLOP/s."""
    return int(minutes * 60 * SHARE * speed * 1e9 / (OPERATIONS * parameters * tokens))


if __name__ == "__main__":
    run(main, __doc__)
