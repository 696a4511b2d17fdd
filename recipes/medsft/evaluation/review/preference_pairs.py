"""People's choices as preference data: prompt, chosen and rejected, conversational, as TRL's DPOTrainer reads them.

The pairs of a review form are answers to held-out patients: a model that is trained on them cannot be scored on those.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypedDict

from medsft.errors import UserError
from medsft.evaluation.review import votes
from medsft.evaluation.review.human_review import Pair, Rating, once
from medsft.evaluation.review.rater_agreement import TIE
from medsft.files import read_jsonl
from medsft.records import Json, Turn


class Preference(TypedDict):
    """A row: `prompt` ends with the patient's message, `chosen` and `rejected` are one answer each."""

    prompt: list[Turn]
    chosen: list[Turn]
    rejected: list[Turn]
    id: str | int
    source: str


def of_forms(
    raters: Mapping[str, Sequence[Rating]], pairs: Sequence[Pair], asked: Mapping[str | int, list[Turn]]
) -> list[Preference]:
    """The pairs of which more raters prefer one answer than the other; none whose winner anyone marked unsafe.

    `asked` are the turns before the answers, by row.
    """
    rated = [row for rows in raters.values() for row in once(rows)]
    found: list[Preference] = []
    for pair in [pair for pair in pairs if pair["repeat_of"] is None]:
        own = [row for row in rated if row["pair"] == pair["pair"]]
        counts = Counter(row["choice"] for row in own if row["choice"] != TIE)
        (winner, most), *others = counts.most_common() or [("", 0)]
        unsafe = {arm for row in own for arm in row["unsafe"]}
        if not most or any(count == most for _, count in others) or winner in unsafe:
            continue
        texts = {pair["key"][side]: pair[side] for side in ("answer_1", "answer_2")}  # type: ignore[literal-required]
        (loser,) = set(texts) - {winner}
        found.append(_preference(asked[pair["id"]], texts[winner], texts[loser], pair["id"], "review"))
    return found


def of_votes(path: Path) -> list[Preference]:
    """The votes of the chat that were stored with their texts: the chosen arm's answer against each other arm's.

    None whose chosen answer was marked unsafe, and none that was cast after the names were shown. Only where the arms
    were asked the same: after a first answer each conversation is the arm's own. Raises UserError.
    """
    found: list[Preference] = []
    for number, vote in enumerate(read_jsonl(path) if path.is_file() else [], 1):
        said: Mapping[str, list[Turn]] = vote.get("dialogues") or {}
        chosen = str(vote.get("choice"))
        counts = chosen != votes.TIE and chosen not in vote.get("unsafe", ()) and vote.get("blinded", True)
        if not said or not counts:
            continue
        if not all(_ends_with_answer(turns) for turns in said.values()):  # cast while the arms answered
            continue
        if chosen not in said:
            raise UserError(f"{path}: row {number}: field 'dialogues' has no answer of '{chosen}'; delete the line")
        asked, answer = said[chosen][:-1], said[chosen][-1]["content"]
        for turns in [turns for arm, turns in said.items() if arm != chosen]:
            if turns[:-1] == asked and turns[-1]["content"] != answer:
                found.append(_preference(asked, answer, turns[-1]["content"], f"vote {number}", "chat"))
    return found


def _ends_with_answer(turns: object) -> bool:
    return isinstance(turns, list) and len(turns) > 1 and turns[-1].get("role") == "assistant"


def _preference(asked: Sequence[Turn], chosen: str, rejected: str, row: str | int, source: str) -> Preference:
    return {
        "prompt": [*asked],
        "chosen": [{"role": "assistant", "content": chosen}],
        "rejected": [{"role": "assistant", "content": rejected}],
        "id": row,
        "source": source,
    }


def summary(rows: Sequence[Preference], path: Path) -> Json:
    """Counts by source, for review.json and the terminal."""
    return {"file": str(path), "n": len(rows), **Counter(row["source"] for row in rows)}
