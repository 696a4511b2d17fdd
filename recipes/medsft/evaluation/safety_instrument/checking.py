"""The steps of check_safety.py: measure the classifiers on labelled files, train them, and print what was found."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TypedDict, cast

from medsft.errors import UserError
from medsft.evaluation.safety_instrument import accuracy, classifier, counterfactuals, labelled
from medsft.evaluation.safety_instrument.accuracy import Accuracy
from medsft.evaluation.safety_instrument.classifier import Kind
from medsft.evaluation.safety_instrument.counterfactuals import Flips, swapped_rows
from medsft.evaluation.safety_instrument.labelled import Labelled
from medsft.files import read_json, sha256_file, write_json
from medsft.inference.generations_file import read_rows

__all__ = ["instrument", "swapped_rows"]
KINDS: tuple[Kind, ...] = ("messages", "answers")
instrument = classifier.instrument


class Mistake(TypedDict):
    """A text that the classifier reads otherwise than its label."""

    id: str
    text: str


class Check(Accuracy):
    """Accuracy on a labelled file, on its hard rows where it marks them, and every mistake."""

    hard: Accuracy | None
    misses: list[Mistake]
    false_alarms: list[Mistake]


def read_labelled(messages: str | None, answers: str | None) -> dict[Kind, list[Labelled]]:
    """The labelled files that were given."""
    files = dict(zip(KINDS, (messages, answers), strict=True))
    return {kind: labelled.read(Path(name), kind) for kind, name in files.items() if name}


def check(kind: Kind, rows: Sequence[Labelled], confidence: float) -> Check:
    """How the shipped classifier reads labelled texts."""
    fired = [classifier.fires(kind, row["text"]) for row in rows]
    pairs = [*zip(rows, fired, strict=True)]
    hard = [(row["label"], fire) for row, fire in pairs if row.get("hard")]
    return {
        **accuracy.measure([row["label"] for row in rows], fired, confidence),
        "hard": accuracy.measure([a for a, _ in hard], [b for _, b in hard], confidence) if hard else None,
        "misses": [{"id": row["id"], "text": row["text"]} for row, fire in pairs if row["label"] and not fire],
        "false_alarms": [{"id": row["id"], "text": row["text"]} for row, fire in pairs if fire and not row["label"]],
    }


def train(files: Mapping[Kind, Sequence[Labelled]], confidence: float) -> None:
    """Train both classifiers on the shipped items and write accuracy.json: by cross-validation, on the embedded sample
    and on these files.
    """
    from medsft.evaluation.safety_instrument import training

    old = read_json(classifier.ACCURACY) if classifier.ACCURACY.is_file() else {}
    record: dict[str, object] = {"read_as": "logistic regression on word features", "confidence": confidence}
    for kind in KINDS:
        items = labelled.read(classifier.FOLDER / f"{kind}.jsonl", kind)
        labels = [item["label"] for item in items]
        measured = accuracy.measure(labels, training.cross_validated(kind, items), confidence)
        training.train(kind, items, classifier.weights_file(kind))
        classifier.load.cache_clear()
        classifier.fires.cache_clear()
        entry: dict[str, object] = {"cross_validation": measured, "sha256": sha256_file(classifier.weights_file(kind))}
        ordinary = check(kind, labelled.sample(kind), confidence)
        entry["sample"] = {key: ordinary[key] for key in Accuracy.__annotations__}  # type: ignore[literal-required]
        if kind in files:
            found = check(kind, files[kind], confidence)
            entry["other_items"] = {key: found[key] for key in (*Accuracy.__annotations__, "hard")}  # type: ignore[literal-required]
        elif "other_items" in old.get(kind, {}) and old[kind]["sha256"] == entry["sha256"]:
            entry["other_items"] = old[kind]["other_items"]
        record[kind] = entry
        print(accuracy.sentence(f"{kind}, by {training.FOLDS}-fold cross-validation on the shipped items", measured))
    write_json(classifier.ACCURACY, record)


def message_flips(texts: Mapping[str, str], confidence: float) -> dict[str, Flips]:
    """For each swap the messages whose reading as an emergency it turns."""
    return counterfactuals.message_flips(texts, partial(classifier.fires, "messages"), confidence)


def answer_flips(before: Path, after: Path, confidence: float) -> Flips:
    """The answers of two generations.jsonl to the same rows, of which one is urgent and the other is not."""
    first, second = (_answers(path) for path in (before, after))
    if first.keys().isdisjoint(second):
        raise UserError(f"{after}: field 'id': no row of {before}; answer the same rows in both files")
    return counterfactuals.answer_flips(first, second, partial(classifier.fires, "answers"), confidence)


def _answers(path: Path) -> dict[str, str]:
    if not path.is_file():
        raise UserError(f"{path}: no such file; give a generations.jsonl that generate.py wrote")
    try:
        return {str(row["id"]): row["prediction"] for row in read_rows(path)}
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: a row lacks id, prompt, reference or prediction; run generate.py again") from error


def printed(kind: Kind, found: Check) -> str:
    """The accuracy in a line, for the hard rows in another, then every miss and false alarm."""
    lines = [accuracy.sentence(kind, found)]
    if found["hard"] is not None:
        lines.append(accuracy.sentence(f"{kind} marked hard", found["hard"]))
    for name, mistakes in (("missed", found["misses"]), ("false alarm", found["false_alarms"])):
        lines += [f"  {name}: {row['id']}: {' '.join(row['text'].split())}" for row in mistakes]
    return "\n".join(lines)


def printed_flips(name: str, flips: Flips) -> str:
    part = flips["share"]
    value = (
        "none to swap" if part["value"] is None else f"{part['value']:.3f} ({part['low']:.3f} to {part['high']:.3f})"
    )
    ids = f": {', '.join(flips['ids'])}" if flips["ids"] else ""
    return f"{name}: {value}, {part['hits']} of {part['n']}{ids}"


def shipped() -> str:
    """The figures of the shipped instrument, a line each."""
    lines = []
    for kind, entry in instrument().items():
        if kind in KINDS:
            measured = cast("dict[str, Accuracy]", entry)
            lines += [
                accuracy.sentence(f"{kind}, {where}", measured[key])
                for key, where in accuracy.PLACES.items()
                if key in measured
            ]
    return "\n".join(lines)
