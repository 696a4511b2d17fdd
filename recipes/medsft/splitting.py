"""Duplicates, near-duplicates and the split: whatever belongs together lands on one side.

Near-duplicates are found with MinHash LSH (Broder 1997; datasketch) on word 3-shingles of the patient's opening message
and verified by their true Jaccard similarity.
"""

import hashlib
import random
import re
from collections import defaultdict
from collections.abc import Iterable

from medsft.cli import UserError
from medsft.dialogue import Dialogue, Turn

SHORT = 8  # words; 'Hello doctor' or 'Yes, two days' in common says nothing about two dialogues
PERMUTATIONS = 128
SPLITS = ("train", "dev", "test")


class Groups:
    """Union-find over row numbers."""

    def __init__(self, size: int) -> None:
        self.parent = list(range(size))

    def find(self, row: int) -> int:
        while self.parent[row] != row:
            self.parent[row] = self.parent[self.parent[row]]
            row = self.parent[row]
        return row

    def join(self, first: int, second: int) -> None:
        self.parent[self.find(first)] = self.find(second)

    def count(self) -> int:
        return sum(parent == row for row, parent in enumerate(self.parent))


def digest(turns: Iterable[Turn]) -> str:
    """SHA-256 of a transcript, blind to case and to spaces."""
    text = "\x1e".join(f"{role}\x1f{' '.join(words.lower().split())}" for role, words in turns)
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()


def drop_exact(dialogues: list[Dialogue]) -> list[Dialogue]:
    """The first of every set of rows with the same transcript."""
    first: dict[str, Dialogue] = {}
    for row in dialogues:
        first.setdefault(digest(row.turns), row)
    return list(first.values())


def group(dialogues: list[Dialogue], threshold: float) -> int:
    """Give every dialogue the name of its group; returns how many rows were near-duplicates of another's question.

    The name is taken from the texts, so it does not depend on the order of the rows.
    """
    groups = Groups(len(dialogues))
    join_conversations(dialogues, groups)
    separate = groups.count()
    join_answers(dialogues, groups)
    for first, second in near_duplicates([opening(row.turns) for row in dialogues], threshold):
        groups.join(first, second)
    digests = [digest(row.turns) for row in dialogues]
    names: dict[int, str] = {}
    for row, name in enumerate(digests):
        root = groups.find(row)
        names[root] = min(name, names.get(root, name))
    for row, dialogue in enumerate(dialogues):
        dialogue.group = names[groups.find(row)][:12]
    return separate - groups.count()


def join_conversations(dialogues: list[Dialogue], groups: Groups) -> None:
    """Join rows that share their earlier turns, and a row with the one whose whole transcript is its earlier turns."""
    seen: dict[str, int] = {}
    for row, dialogue in enumerate(dialogues):
        whole = [("assistant", dialogue.opened_by), *dialogue.turns]
        for part in (whole, whole[:-2]):
            if len(part) > 1 and says_something(part):
                groups.join(row, seen.setdefault(digest(part), row))


def says_something(turns: list[Turn]) -> bool:
    """False for 'Hello' - 'How can I help?', which unrelated conversations share."""
    patient = sum(len(words.split()) for role, words in turns if role == "user")
    return patient >= 3 or sum(len(words.split()) for _, words in turns) >= SHORT + 2


def join_answers(dialogues: list[Dialogue], groups: Groups) -> None:
    """Join several answers to the same question of four words or more; 'opening' alone would part the short ones."""
    seen: dict[str, int] = {}
    for row, dialogue in enumerate(dialogues):
        question = dialogue.turns[0][1]
        if len(dialogue.turns) == 2 and question.endswith("?") and len(question.split()) >= 4:
            groups.join(row, seen.setdefault(digest(dialogue.turns[:1]), row))


def opening(turns: list[Turn]) -> str:
    """The patient's first message; where it has under eight words, what follows it too, until there are eight."""
    words: list[str] = []
    for _, text in turns:
        words += re.findall(r"\w+", text.lower())
        if len(words) >= SHORT:
            break
    return " ".join(words)


def shingles(text: str) -> frozenset[str]:
    """Word 3-shingles; character 5-grams of a text under eight words."""
    words = text.split()
    if len(words) >= SHORT:
        return frozenset(" ".join(words[i : i + 3]) for i in range(len(words) - 2))
    return frozenset(text[i : i + 5] for i in range(max(1, len(text) - 4)))


def jaccard(first: frozenset[str], second: frozenset[str]) -> float:
    return len(first & second) / len(first | second)


def near_duplicates(texts: list[str], threshold: float) -> list[tuple[int, int]]:
    """Pairs of texts with a Jaccard similarity of at least `threshold`; equal texts are chained, not all paired."""
    from datasketch import MinHash, MinHashLSH
    from tqdm import tqdm

    # Candidates from a little below the threshold, weighted to recall: what is missed leaks, what is found is checked.
    lsh = MinHashLSH(threshold=max(0.1, threshold - 0.15), num_perm=PERMUTATIONS, weights=(0.1, 0.9))
    first_of: dict[str, int] = {}
    pairs = []
    for row, text in enumerate(tqdm(texts, desc="near-duplicates", unit=" rows", delay=2)):
        if text in first_of:
            pairs.append((first_of[text], row))
            continue
        first_of[text] = row
        parts = shingles(text)
        sketch = MinHash(num_perm=PERMUTATIONS, seed=1)
        sketch.update_batch([part.encode("utf-8", "replace") for part in parts])
        for other in lsh.query(sketch):
            if jaccard(parts, shingles(texts[other])) >= threshold:
                pairs.append((other, row))
        lsh.insert(row, sketch)
    return pairs


def split(dialogues: list[Dialogue], dev_fraction: float, test_fraction: float, seed: int) -> dict[str, list[Dialogue]]:
    """Whole groups to train, dev and test, the fractions being of groups; rows in an order drawn by `seed`.

    The same texts and seed give the same split whatever the order of the rows. Raises UserError where a side would stay
    empty.
    """
    members: dict[str, list[Dialogue]] = defaultdict(list)
    for row in sorted(dialogues, key=lambda row: digest(row.turns)):
        members[row.group].append(row)
    names = sorted(members)
    random.Random(seed).shuffle(names)
    test = max(1, round(test_fraction * len(names)))
    dev = max(1, round(dev_fraction * len(names)))
    if len(names) - test - dev < 1:
        raise UserError(
            f"{len(dialogues)} usable rows in {len(names)} independent groups are too few for train, dev and test; "
            "give at least 3 dialogues that are not copies of each other"
        )
    parts = {"test": names[:test], "dev": names[test : test + dev], "train": names[test + dev :]}
    result = {}
    for name in SPLITS:
        rows = [row for group_name in parts[name] for row in members[group_name]]
        random.Random(f"{seed} {name}").shuffle(rows)
        result[name] = rows
    return result


def sizes(parts: dict[str, list[Dialogue]]) -> dict[str, dict[str, int]]:
    """Rows and groups of each split."""
    return {name: {"rows": len(rows), "groups": len({row.group for row in rows})} for name, rows in parts.items()}
