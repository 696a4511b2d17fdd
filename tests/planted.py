"""Identifiers by Faker planted into sentences without any: how many are found, and how much else is taken for one."""

import csv
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

from medsft.data.rules.deidentification import deidentify
from medsft.evaluation.statistics.proportions import wilson

SAMPLE = Path(__file__).resolve().parents[1] / "recipes" / "sample"
LOCALES = ("en_US", "en_GB", "en_IN")
# kind: (role, sentences with {x}); the last two kinds show the limits that docs/your_data.md states
CARRIERS: dict[str, tuple[str, tuple[str, ...]]] = {
    "email": (
        "user",
        ("Please write to {x}.", "My email is {x} for the reports", "mail me: {x}, thanks", "at {x} thx"),
    ),
    "phone": ("user", ("Call me on {x}.", "my number is {x} please", "Phone: {x}", "(cell {x})", "whatsapp {x}")),
    "url": ("assistant", ("See {x} for more.", "I found it at {x}.", "More here ({x})", "link:{x}")),
    "record number": (
        "user",
        ("My MRN is {x}.", "Patient ID: {x}", "hospital number {x} was given", "my file no {x}", "record #{x}"),
    ),
    "doctor's name": (
        "user",
        ("I saw Dr. {x} last week.", "Dr {x} gave me tablets.", "I went to Doctor {x}.", "my gp dr {x} said"),
    ),
    "signature": (
        "assistant",
        ("Regards,\nDr. {x}", "Best wishes,\n{x}", "Sincerely,\n{x}, MD", "Thanks,\n{x}", "Take care. {x}, MBBS"),
    ),
    "patient's name": (
        "user",
        (
            "My name is {x} and I need advice.",
            "I am {x}, 34 years old.",
            "Name: {x}",
            "My son's name is {x}",
            "Thanks, {x}",
        ),
    ),
    "name without a title": ("user", ("My wife {x} has the same.", "{x} told me to ask.", "They sent {x} home.")),
    "name in lower case": ("user", ("i went to dr. {x}, he said", "i am {x}, 30 male", "wife {x} has the same")),
}


def clean_texts() -> list[str]:
    """Patients' messages of the embedded sample in which nothing is planted."""
    with (SAMPLE / "labels.csv").open(encoding="utf-8", newline="") as handle:
        planted = [label["planted"] for label in csv.DictReader(handle)]
    rows = [json.loads(line) for line in (SAMPLE / "dialogues.jsonl").read_text(encoding="utf-8").splitlines()]
    return [row["patient_message"] for row, what in zip(rows, planted, strict=True) if not what]


def identifier(fake: Any, kind: str) -> str:
    if kind == "email":
        return fake.email()
    if kind == "phone":
        return fake.phone_number()
    if kind == "url":
        return fake.url() + fake.uri_path()
    if kind == "record number":
        return fake.bothify(fake.random_element(("#######", "??-######", "######/##"))).upper()
    name = f"{fake.first_name()} {fake.last_name()}"
    return name.lower() if "lower" in kind else name


def measure(count: int, seed: int, presidio_model: str = "") -> dict[str, Any]:
    """`recall` {kind: share}: of `count` planted of each kind; `precision`: of all placeholders, those that stand for
    something planted. With a spaCy model, of the rules and Presidio together."""
    from faker import Faker

    texts = clean_texts()
    recall: dict[str, dict[str, float]] = {}
    right = placed = 0
    for kind, (role, carriers) in CARRIERS.items():
        found = 0
        for number in range(count):
            fake = Faker(LOCALES[number % len(LOCALES)])
            fake.seed_instance(seed + number)
            value = identifier(fake, kind)
            text, sentence = texts[number % len(texts)], carriers[number % len(carriers)].format(x=value)
            after, placeholders = redacted(f"{text}\n{sentence}", role, presidio_model)
            gone = not any(part in "\n".join(after.split("\n")[text.count("\n") + 1 :]) for part in pieces(value, kind))
            found += gone
            right += gone
            placed += placeholders.total()
        recall[kind] = share(found, count)
    return {"seed": seed, "recall": recall, "precision": share(right, max(placed, right))}


def redacted(text: str, role: str, presidio_model: str) -> tuple[str, Counter[str]]:
    """The text after the rules and, where a model is named, Presidio; and the placeholders by kind."""
    text, counts = deidentify(text, role)
    if presidio_model:
        from medsft.data.rules.presidio import redact

        ((text, names),) = redact([text], presidio_model)
        counts += names
    return text, counts


def share(hits: int, n: int) -> dict[str, float]:
    """A share with its 95 % Wilson interval."""
    low, high = wilson(hits, n, 0.95)
    return {"n": n, "share": hits / n, "low": low, "high": high}


def pieces(value: str, kind: str) -> list[str]:
    """What must not be left of an identifier: every name of a person, the whole of anything else."""
    return re.findall(r"\w\w+", value) if "name" in kind or kind == "signature" else [value.rstrip("/")]


def on_real_corpora(folder: Path, presidio_model: str = "") -> dict[str, Any]:
    """Rows touched and placeholders by kind for every dialogue file there is; {} where there is none."""
    from conftest import read_all

    result = {}
    for path in sorted(folder.glob("*.jsonl")) if folder.is_dir() else []:
        if "patient_message" not in path.open(encoding="utf-8").readline():
            continue
        dialogues, _, count = read_all(path)
        kinds: Counter[str] = Counter()
        touched = 0
        for dialogue in dialogues:
            found = (redacted(text, role, presidio_model)[1] for role, text in dialogue.turns[-2:])
            counts = sum(found, Counter[str]())
            kinds += counts
            touched += bool(counts)
        result[path.stem] = {"rows": count, "rows_touched": touched, "placeholders": dict(sorted(kinds.items()))}
    return result
