"""Whether the parts of a study belong together: split, arms, answers, scores and report name what they were made from.

Records that were written before these names were kept say nothing, and nothing is concluded from them.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

from medsft.errors import UserError
from medsft.files import read_json, sha256_file
from medsft.records import Json
from medsft.study import answer_again
from medsft.study.names import TEST, answers_folder

ANOTHER = "start another study for other data: --study_dir runs/NEW, or make ... STUDY=NEW"


def split_of(study: Path, test: str = TEST) -> str:
    """The fingerprint of the prepared split, or of a further test set of that name; '' where there is none."""
    report = _read(study / "data" / "data_report.json")
    return str((report if test == TEST else report.get("also_test", {}).get(test, {})).get("fingerprint", ""))


def trained_on(arm: Path) -> str:
    """The fingerprint of the split that an arm was trained on; '' where nothing was trained or the record is older."""
    return str(_read(arm / "train.json").get("comparable", {}).get("data") or "")


def weights_of(study: Path, arm: str) -> str:
    """The fingerprint of an arm's training; '' where nothing was trained."""
    return str(_read(study / arm / "train.json").get("fingerprint", ""))


def check_replacement(study: Path, split: str) -> None:
    """Raise UserError where arms were trained on, or have answered, another split than the one of this fingerprint."""
    made = {path.parent.name: trained_on(path.parent) for path in study.glob("*/train.json")}
    for path in study.glob("*/generation.json"):
        made[path.parent.name] = made.get(path.parent.name) or str(_read(path).get("data", ""))
    standing = sorted(arm for arm, data in made.items() if data not in ("", split) and not arm.startswith("."))
    if standing:
        raise UserError(
            f"{study}/data: kept, because {', '.join(standing)} stand on its rows and the new ones differ; {ANOTHER}"
        )


def check_trained(study: Path, arms: Iterable[str]) -> None:
    """Raise UserError where an arm was trained on another split than the study's."""
    split = split_of(study)
    for arm in arms:
        if _differ(trained_on(study / arm), split):
            raise UserError(
                f"{study / arm}: trained on another split than {study}/data, so that its test rows may be training "
                f"rows; prepare the old data again, or {ANOTHER}"
            )


def check_arms(study: Path, arms: Sequence[str], test: str = TEST) -> None:
    """Raise UserError where an arm was trained on another split, or its answers to `test` are to other rows, of before,
    or of another base model than the one that was trained."""
    check_trained(study, arms)
    bases = {name: train for name in arms if (train := _read(study / name / "train.json"))}
    split, folder = split_of(study, test), answers_folder(study, test)
    for arm in arms:
        train, answers = _read(study / arm / "train.json"), _read(folder / arm / "generation.json")
        again = f"run: {answer_again.command(study, arm, test)}"
        if _differ(str(answers.get("data", "")), split):
            raise UserError(f"{folder / arm}/generations.jsonl: answers to another split than {study}/data; {again}")
        if train and _differ(str(answers.get("trained", "")), str(train.get("fingerprint", ""))):
            raise UserError(f"{folder / arm}/generations.jsonl: answers from before the arm was trained again; {again}")
        for name, base in {} if train else bases.items():
            if _differ(answers.get("base_revision", ""), base.get("base_revision", "")):
                model = base["base_model"]
                again = f"run: {answer_again.command(study, arm, test, model_name_or_path=model)}"
                raise UserError(
                    f"{folder / arm}/generations.jsonl: answers of {answers['base_model']}, and {name} was trained "
                    f"from {model}, so their difference would not be the training's; {again}"
                )


def check_scores(study: Path, arms: Iterable[str], test: str = TEST) -> None:
    """Raise UserError where scores are of other answers than those here, or the comparison is of other scores."""
    again = f"run: python recipes/score.py --study_dir {study}{_flag(test)}"
    study = answers_folder(study, test)
    compared = _read(study / "comparison.json").get("scores", {})
    if gone := sorted(arm for arm in compared if not (study / arm / "scores.json").is_file()):
        raise UserError(f"{study}/comparison.json: compares {', '.join(gone)}, whose scores are not here; {again}")
    for arm in arms:
        scores, answers = _read(study / arm / "scores.json"), study / arm / "generations.jsonl"
        known = str(scores.get("answers", ""))
        if known and answers.is_file() and known != sha256_file(answers):
            raise UserError(f"{study / arm}/scores.json: scores of other answers than generations.jsonl; {again}")
        for name, sha in scores.get("also_read", {}).items():
            if not (study / arm / name).is_file() or sha256_file(study / arm / name) != sha:
                raise UserError(f"{study / arm}/scores.json: scores of other answers than {name}; {again}")
        if compared and _differ(str(compared.get(arm, "none")), str(scores.get("fingerprint", ""))):
            raise UserError(f"{study}/comparison.json: compares other scores than {arm}/scores.json; {again}")


def check_report(study: Path) -> None:
    """Raise UserError where the report is about another split than the study's."""
    reported = str(_read(study / "report" / "results.json").get("data", {}).get("fingerprint", ""))
    if _differ(reported, split_of(study)):
        raise UserError(
            f"{study}/report: about another split than {study}/data; run: python recipes/report.py --study_dir {study}"
        )


def _flag(test: str) -> str:
    return "" if test == TEST else f" --test {test}"


def _differ(one: str, other: str) -> bool:
    """Whether two fingerprints are both known and differ."""
    return bool(one and other and one != other)


def _read(path: Path) -> Json:
    found: Json = read_json(path) if path.is_file() else {}
    return found
