"""Studies and arms by name: a wrong one is answered with those that exist."""

from pathlib import Path

from medsft.config import nearest
from medsft.errors import UserError
from medsft.result_records import ALSO_TEST

BASELINE = "baseline"
TEST = "test"
MOST = 12  # names in one line


def existing_study(folder: str | Path) -> Path:
    """The folder of a study that is there. Raises UserError with the studies beside it."""
    study = Path(folder)
    if study.is_dir():
        return study
    known = studies_beside(study)
    begin = f"begin one with recipes/prepare_data.py --study_dir {study}"
    raise UserError(f"{study}: no such study; {_offered(study.name, known, f'{study.parent} has')}{begin}")


def existing_arm(study: Path, arm: str, known: list[str]) -> str:
    """The arm, which is one of `known`. Raises UserError with those that are there."""
    if arm in known:
        return arm
    raise UserError(f"{study}: no arm '{arm}' here; {_offered(arm, known, 'there are')}train one with make lora")


def answers_folder(study: Path, test: str) -> Path:
    """Where the arms' folders with answers to a test set are: the study itself, or a folder of a further test set."""
    return study if test == TEST else study / ALSO_TEST / test


def trained_arms(study: Path) -> list[str]:
    """The names of the arms with weights, by alphabet."""
    return sorted(path.parent.name for path in study.glob("*/train.json") if not path.parent.name.startswith("."))


def studies_beside(study: Path) -> list[str]:
    """The names of the studies in the same folder: what holds a split, an arm or answers."""
    signs = ("data/data_report.json", "*/train.json", "*/generations.jsonl")
    folders = sorted(path for path in study.parent.glob("*") if path.is_dir() and not path.name.startswith("."))
    return [path.name for path in folders if any(True for sign in signs for _ in path.glob(sign))]


def _offered(name: str, known: list[str], where: str) -> str:
    """'did you mean 'demo'? runs has demo, mine; ' or '' where nothing is known."""
    if not known:
        return ""
    more = f" and {len(known) - MOST} more" if len(known) > MOST else ""
    guess = nearest(name, known, " ")
    return f"{guess.strip()} {where} {', '.join(known[:MOST])}{more}; ".lstrip()
