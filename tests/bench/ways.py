"""The ways of training that are compared: what each is started with. The fourth is in external.py."""

from pathlib import Path

import external

from medsft.hardware.matmul_benchmark import prefers_bfloat16
from medsft.models import embedded, loading

HERE = Path(__file__).resolve().parent
RECIPES = HERE.parents[1] / "recipes"
DEMO = RECIPES / "configs" / "demo"
WAYS = {"recipe": "these recipes", "notebook": "the study's notebook", "trl": "TRL's script, defaults"}


def command(way: str, method: str, study: Path, rows: int, output: Path) -> list[str]:
    """What watched.py is to run for a way: a script, or a module of another framework, and its words."""
    base, source = loading.resolve(embedded.SMOLLM2), study / "rows" / "train.jsonl"
    if way == "recipe":
        script = RECIPES / ("sft_full.py" if method == "full" else "sft_lora.py")
        at = ["--config", str(DEMO / f"{method}.yaml"), "--study_dir", str(study), "--arm", output.name]
        return [str(script), *at, "--max_train_rows", str(rows), "--eval_strategy", "no", "--save_strategy", "no"]
    if way == "notebook":
        return [str(HERE / "notebook.py"), str(source), base, method, str(output), str(prefers_bfloat16())]
    if way in external.TRAIN:
        return external.command(way, source, base, method, output, prefers_bfloat16())
    words = [*trl_script(base, source.parent, output), *([] if prefers_bfloat16() else ["--bf16", "False"])]
    words += [] if method == "full" else ["--use_peft"]
    return words + (["--load_in_4bit"] if method == "qlora" else [])


def trl_script(base: str, rows: Path, output: Path) -> list[str]:
    from trl.scripts import sft

    words = [str(sft.__file__), "--model_name_or_path", base, "--dataset_name", str(rows), "--output_dir", str(output)]
    return [*words, "--num_train_epochs", "1", "--use_cpu", "--save_strategy", "no"]
