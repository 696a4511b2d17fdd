"""A generated corpus of MedDialog's size and row schema, for tests and benchmarks, never for training.

Lengths are log-normal with the medians and means of OpenMed/MedDialog (patient 414 and 492 characters, doctor 481 and
546, at most 2,500). Words are those of the embedded sample, as often as there, in random order; courtesies, arrows,
no-break spaces, names, numbers, copies and broken rows are planted.
"""

import json
import math
import random
import re
import sys
from collections import Counter
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any

from medsft.records import Turn

SAMPLE = Path(__file__).resolve().parents[1] / "recipes" / "sample" / "dialogues.jsonl"
FULL_SIZE = 251_731  # rows of OpenMed/MedDialog, train and validation
OPENINGS = (
    "Hello, thank you for posting your query. ",
    "Hi, thanks for your question on HealthCareMagic. I have gone through your query and understand your concern. ",
    "Hello. Welcome to Chat Doctor. ",
    "Hi. ",
)
CLOSINGS = (
    " Hope this answers your question. Wishing you good health.",
    " For further doubts consult a dermatologist online -->",
    "\nHope this helps.\nRegards,\nDr. Elvira Quillfeather",
    " Thanks. Chat Doctor.",
)
IDENTIFIERS = (
    " My name is Tobiah Wrenfield.",
    " Write to wren.field@example.org please.",
    " I found https://www.example.org/page?id=3 about it.",
    " Call me on +1 202-555-0147.",
    " My MRN is 4839201.",
)


def rows(count: int = FULL_SIZE, seed: int = 0) -> Iterator[dict[str, Any]]:
    """`count` rows in the columns of OpenMed/MedDialog, the same for the same seed."""
    generator = random.Random(seed)
    counts = Counter(re.findall(r"[a-z]+", SAMPLE.read_text(encoding="utf-8").lower()))
    vocabulary, weights = list(counts), list(accumulate(counts.values()))
    recent: list[dict[str, Any]] = []
    for _ in range(count):
        kind = generator.random()
        if recent and kind < 0.01:
            row = generator.choice(recent)  # an exact copy
        elif recent and kind < 0.04:
            row = nearly(generator.choice(recent), generator)
        elif kind < 0.041:
            row = {"patient_message": None, "doctor_response": "Rest.", "dialogue_context": ""}
        else:
            row = {
                "patient_message": patient(generator, text(generator, vocabulary, weights, 414, 492)),
                "doctor_response": doctor(generator, text(generator, vocabulary, weights, 481, 546)),
                "dialogue_context": "",
            }
            recent = [*recent[-200:], row]
        yield row


def text(generator: random.Random, vocabulary: list[str], weights: list[float], median: int, mean: int) -> str:
    spread = math.sqrt(2 * math.log(mean / median))  # of a log-normal with this median and mean
    length = min(2_400, max(20, int(generator.lognormvariate(math.log(median), spread))))
    words = generator.choices(vocabulary, cum_weights=weights, k=length // 5 + 1)
    for index in range(0, len(words), 12):
        words[index] = words[index].capitalize()
        words[index - 1] += "."
    return " ".join(words)[:length]


def patient(generator: random.Random, words: str) -> str:
    if generator.random() < 0.37:
        words = words.replace(" ", "\u00a0", 3)
    return words + (generator.choice(IDENTIFIERS) if generator.random() < 0.02 else "")


def doctor(generator: random.Random, words: str) -> str:
    opening = generator.choice(OPENINGS) if generator.random() < 0.5 else ""
    return opening + words + (generator.choice(CLOSINGS) if generator.random() < 0.5 else "")


def nearly(row: dict[str, Any], generator: random.Random) -> dict[str, Any]:
    """The same question with one word changed."""
    words = row["patient_message"].split(" ")
    words[generator.randrange(len(words))] = "otherwise"
    return {**row, "patient_message": " ".join(words)}


def write(path: Path, count: int = FULL_SIZE, seed: int = 0) -> Path:
    """The corpus as JSON Lines."""
    with path.open("w", encoding="utf-8") as handle:
        handle.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows(count, seed))
    return path


def turns(*texts: str) -> list[Turn]:
    """These texts as the turns of the patient and the doctor in alternation."""
    return [{"role": "assistant" if number % 2 else "user", "content": text} for number, text in enumerate(texts)]


def pair(**more: Any) -> dict[str, Any]:
    """A row of one exchange in MedDialog's columns."""
    return {"patient_message": "My ear hurts.", "doctor_response": "Since when?", **more}


def jsonl(*lines: Any) -> bytes:
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


def distinct_texts(count: int) -> list[str]:
    """Texts of 20 words that have next to nothing in common."""
    generator = random.Random(7)
    words = [f"w{number}" for number in range(4000)]
    return [" ".join(generator.sample(words, 20)) for _ in range(count)]


if __name__ == "__main__":
    write(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else FULL_SIZE)
