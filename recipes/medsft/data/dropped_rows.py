"""dropped.jsonl: every row that is in no split, with its reason and its words, for people to look at.

Its texts are de-identified as the prepared rows are; the rules may miss something in both.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from medsft.data.data_report import SplitRows, Tables
from medsft.data.groups.grouping import Row
from medsft.data.reading.dialogue import Rejected
from medsft.data.rules.deidentification import deidentify
from medsft.records import Json, Turn

NAMES = {"user": "Patient", "assistant": "Doctor", "system": "System"}


def write_dropped(path: Path, rows: Iterable[Json]) -> None:
    """Write the rows one by one: of a large corpus they may be a gigabyte."""
    with path.open("w", encoding="utf-8", newline="\n") as handle:
        handle.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def dropped_rows(
    tables: Tables, rejected: Sequence[Rejected], rows: SplitRows, skip: Sequence[str], level: str
) -> Iterator[Json]:
    """The rows that could not be read, with their file and field, then the others in the order of the source."""
    for bad in rejected:
        place = {"file": bad.file, "row": bad.row, "field": bad.field, "reason": bad.reason, "source": bad.source}
        yield {**place, "text": hidden(bad.text, "user", skip, level)}
    ids, sources = tables.read["id"], tables.read["source"]
    for position, reason in sorted(reasons(tables, rows).items()):
        row = int(ids[position].rsplit(":", 1)[1])
        place = {"id": ids[position], "row": row, "reason": reason, "source": sources[position]}
        turns = tables.named[position]["turns"]
        if not turns:  # dropped before it was de-identified
            read: list[Turn] = tables.read[position]["turns"]
            turns = [{**turn, "content": hidden(turn["content"], turn["role"], skip, level)} for turn in read]
        yield {**place, "text": "\n".join(f"{NAMES[turn['role']]}: {turn['content']}" for turn in turns)}


def hidden(text: str, role: str, skip: Sequence[str], level: str) -> str:
    return deidentify(text, role, [*skip, "sign_off"], level)[0]


def reasons(tables: Tables, rows: SplitRows) -> dict[int, str]:
    """{position of a dropped row: reason}, of the rows that could be read."""
    found: dict[int, str] = {}
    for table in (tables.cleaned, tables.redacted):
        found |= {position: reason for position, reason in enumerate(table["dropped"]) if reason}
    unique = {row.position for row in rows.unique}
    found |= {row.position: "exact_duplicate" for row in rows.remaining if row.position not in unique}
    fits = tables.fitted.data.table["prompt_tokens"].to_numpy() > 0
    kept = {row.position for part in rows.parts.values() for row in part}
    longer = {row.position for row in rows.in_longer_row}

    def reason(row: Row) -> str:
        if not fits[row.position]:
            return "over_budget"
        return "in_longer_row" if row.position in longer else rows.left_out

    return found | {row.position: reason(row) for row in rows.unique if row.position not in kept}
