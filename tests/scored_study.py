"""A small study whose arms have answered, and score.py run on it as a user does."""

import pyarrow
import pyarrow.parquet

from conftest import run_here
from medsft.files import write_jsonl

COMPLAINTS = ["sudden chest pain", "a stiff neck", "an itchy rash", "a dry cough", "a swollen ankle", "a ringing ear"]
ADVICE = [
    "call an ambulance at once",
    "move it gently",
    "use a plain cream",
    "try honey at night",
    "raise the leg",
    "rest it",
]


def answer_row(number, prediction):
    complaint, advice = COMPLAINTS[number % 6], ADVICE[number % 6]
    return {
        "id": f"row{number}",
        "group": f"group{number}",
        "source": "made up",
        "prompt": f"I have had {complaint} for {number + 2} days.",
        "reference": f"For {complaint}, {advice} and call me if it lasts more than {number + 5} days.",
        "prediction": prediction,
        "stopped": number % 3 > 0,
        "new_tokens": len(prediction.split()),
    }


def write_arm(study, arm, numbers, predict):
    rows = [answer_row(number, "") for number in numbers]
    for row, number in zip(rows, numbers, strict=True):
        row["prediction"] = predict(row, number)
    write_jsonl(study / arm / "generations.jsonl", rows)


def make(folder):
    """Ten test rows answered by two arms, an empty and a very odd answer among them."""
    write_arm(folder, "baseline", range(10), lambda row, n: "" if n == 0 else "Please see a doctor soon. 发烧 \u200b")
    write_arm(folder, "lora", range(9, -1, -1), lambda row, n: row["reference"].replace("call", "tell"))
    turns = [
        [{"role": "user", "content": f"What helps with {c}?"}, {"role": "assistant", "content": f"You could {a}."}]
        for c, a in zip(COMPLAINTS, ADVICE, strict=True)
    ]
    names = [f"train{number}" for number in range(6)]
    table = pyarrow.table({"id": names, "source": names, "group": names, "messages": turns})
    (folder / "data").mkdir()
    pyarrow.parquet.write_table(table, folder / "data" / "train.parquet")
    return folder


def score(study, *flags, run=run_here):
    """score.py in this process, or as one of its own by `run_script`."""
    return run("score.py", "--study_dir", study, "--resamples", 300, *flags)


def written(study):
    files = [path for path in study.rglob("*") if path.name.startswith(("scores", "comparison"))]
    return {str(path.relative_to(study)): path.stat().st_mtime_ns for path in files}
