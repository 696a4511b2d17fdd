"""The numbers of data_report.json: rows and tokens by reason, rule, split and source, and an example of each rule."""

from collections import Counter
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, NamedTuple

from medsft.data.groups.answers import count_answers
from medsft.data.groups.grouping import Row
from medsft.data.reading.dialogue import Rejected
from medsft.data.rules import rule_examples
from medsft.data.rules.courtesy import COURTESY_RULES
from medsft.data.rules.deidentification import NAME_RULES
from medsft.data.rules.language import ENGLISH
from medsft.data.rules.rule_examples import RuleExample
from medsft.records import RowCounts, Turn
from medsft.tokenization.control_tokens import as_text
from medsft.tokenization.system_turns import DROP, SystemTurns, parted

if TYPE_CHECKING:
    from datasets import Dataset
    from pyarrow import ChunkedArray
    from transformers import PreTrainedTokenizerBase


class Tables(NamedTuple):
    """The tables after each transform; row n of one is row n of all. Without Presidio `named` is `redacted`."""

    read: "Dataset"
    cleaned: "Dataset"
    redacted: "Dataset"
    named: "Dataset"
    keys: "Dataset"
    fitted: "Dataset"


class SplitRows(NamedTuple):
    """The rows on their way into the splits."""

    remaining: list[Row]  # all that cleaning left
    unique: list[Row]  # those without their exact copies
    near: Counter[str]  # {source: near-duplicates}
    parts: dict[str, list[Row]]  # {split: rows}
    left_out: str  # the reason of the other rows that fit the token budget and are in no split
    in_longer_row: list[Row]  # those whose answers carry loss in a longer row of their conversation


def count_rows(tables: Tables, rejected: list[Rejected], rows: SplitRows) -> RowCounts:
    """What became of every row: the numbers of data_report.json."""
    read, cleaned, redacted, named, _, fitted = (table.data.table for table in tables)
    kept = [row for part in rows.parts.values() for row in part]
    fits = fitted["prompt_tokens"].to_numpy() > 0
    over = sum(not fits[row.position] for row in rows.unique)
    copies, longer = len(rows.remaining) - len(rows.unique), len(rows.in_longer_row)
    dropped = Counter(row.reason for row in rejected) + tally(cleaned["dropped"]) + tally(redacted["dropped"])
    dropped += Counter({"exact_duplicate": copies, "over_budget": over, "in_longer_row": longer}) + Counter(
        {rows.left_out: len(rows.unique) - over - longer - len(kept)}
    )
    repaired = tally(read["repairs"]) + tally(cleaned["fired"])
    repaired += Counter(
        {"sign_off": tally(redacted["fired"])["sign_off"], "control_tokens": int(fitted["broken"].to_numpy().sum())}
    )
    found = tally(redacted["redacted"]) + (tally(named["redacted"]) if named is not redacted else Counter())
    lengths = {name: token_columns(tables.fitted, part) for name, part in rows.parts.items()}
    return {
        "rows_read": len(tables.read) + len(rejected),
        "rows_kept": len(kept),
        "dropped": ordered(dropped),
        "repaired": ordered(repaired),
        "redacted": ordered(found),
        "duplicates": {"exact": copies, "near": rows.near.total(), "groups": len({row.group for row in kept})},
        "splits": sizes(rows.parts),
        "tokens": {name: token_counts(*columns) for name, columns in lengths.items()},
        "truncated": {"prompt": shortened(tables.fitted, kept), "answer": 0},
        "leaking": shared_groups(rows.parts),
        "answers": answer_counts(tables, rows.parts),
        "languages": ordered(tally(cleaned["language"])),
        "scripts": ordered(tally(cleaned["script"])),
        "english_rules": {
            "rules": [*COURTESY_RULES, *NAME_RULES],
            "rows_left_alone": sum(count for name, count in tally(cleaned["language"]).items() if name not in ENGLISH),
        },
        "sources": by_source(
            read=tally(read["source"]) + Counter(row.source for row in rejected),
            rejected=Counter(row.source for row in rejected),
            exact=Counter(row.source for row in rows.remaining) - Counter(row.source for row in rows.unique),
            near=rows.near,
            kept=Counter(row.source for row in kept),
        ),
        "lengths": [sum(pair) for pair in zip(*lengths["train"], strict=True)],
    }


def exchanges_kept(fitted: "Dataset") -> Callable[[int], int]:
    """How many exchanges of a row, by its position, are left within the token budget."""
    from pyarrow import compute

    lengths = compute.list_value_length(fitted.data.table["messages"]).to_numpy()
    return lambda position: int(lengths[position]) // 2


def answers_of(keys: "Dataset") -> Callable[[int], list[str]]:
    """The keys of a row's answers, by its position."""
    column = keys.data.table["answers"]
    return lambda position: column[position].as_py()  # type: ignore[no-any-return]


def system_turn_counts(tables: Tables, rows: SplitRows, how: str) -> SystemTurns:
    """How many rows were read with a system turn, and the text of most training rows."""
    from pyarrow import compute

    firsts = compute.list_element(tables.read.data.table["turns"], 0)
    found = int(compute.sum(compute.equal(compute.struct_field(firsts, "role"), "system")).as_py() or 0)
    train = [row.position for row in rows.parts["train"]]
    if not found or how == DROP or not train:
        return {"rows": found, "how": how, "text": ""}
    texts = Counter(parted(turns)[0] for turns in tables.named.select(train)["turns"])
    text, count = texts.most_common(1)[0]
    return {"rows": found, "how": how, "text": text if 2 * count > len(train) else ""}


def answer_counts(tables: Tables, parts: dict[str, list[Row]]) -> dict[str, dict[str, int]]:
    """How many answers carry loss in train and dev, and how often; in the test split the last one of each row is asked
    for."""
    answers, kept = answers_of(tables.keys), exchanges_kept(tables.fitted)
    return {name: count_answers(parts[name], answers, kept) for name in ("train", "dev")}


def tally(column: "ChunkedArray") -> Counter[str]:
    """How often each value occurs in an Arrow column of texts, or of lists of texts; '' is not counted."""
    import pyarrow
    from pyarrow import compute

    if pyarrow.types.is_list(column.type):
        column = compute.list_flatten(column)
    counts = {pair["values"]: pair["counts"] for pair in compute.value_counts(column).to_pylist()}
    return Counter({value: count for value, count in counts.items() if value})


def token_counts(prompt: list[int], answer: list[int]) -> dict[str, int]:
    """Sums over the rows of a split, and its longest row."""
    longest = max(map(sum, zip(prompt, answer, strict=True)), default=0)
    return {"prompt": sum(prompt), "answer": sum(answer), "total": sum(prompt) + sum(answer), "max": longest}


def sizes(parts: dict[str, list[Row]]) -> dict[str, dict[str, int]]:
    """Rows and groups of each split."""
    return {name: {"rows": len(rows), "groups": len({row.group for row in rows})} for name, rows in parts.items()}


def by_source(**columns: Counter[str]) -> dict[str, dict[str, int]]:
    """{source: {name: count}} from one Counter of sources for each name."""
    sources = sorted(set().union(*columns.values()))
    return {source: {name: counts[source] for name, counts in columns.items()} for source in sources}


def shared_groups(parts: dict[str, list[Row]]) -> int:
    """How many rows outside train share a group with a row of it: 0 for every split but the source study's."""
    train = {row.group for row in parts["train"]}
    return sum(row.group in train for name, rows in parts.items() if name != "train" for row in rows)


def examples(
    tables: Tables,
    tokenizer: "PreTrainedTokenizerBase",
    skip_cleaning: Collection[str],
    skip_identifiers: Collection[str],
    level: str,
) -> dict[str, RuleExample]:
    """{rule: its first change}, and the first changes by Presidio and to control tokens."""
    found = rule_examples.of_cleaning(tables.read, tables.cleaned, skip_cleaning)
    found |= rule_examples.of_deidentification(tables.cleaned, tables.redacted, skip_identifiers, level)
    if tables.named is not tables.redacted:
        found |= rule_examples.of_presidio(tables.redacted, tables.named)
    first = int(tables.fitted.data.table["broken"].to_numpy().argmax())
    typed: list[Turn] = tables.named[first]["turns"]
    before, after = ([turn["content"] for turn in turns] for turns in (typed, as_text(tokenizer, typed)))
    return found | rule_examples.of_texts("control_tokens", before, after)


def token_columns(fitted: "Dataset", rows: list[Row]) -> tuple[list[int], list[int]]:
    """Prompt and answer tokens of the rows, in order."""
    positions = [row.position for row in rows]
    prompt, answer = (fitted.data.table[name].to_numpy() for name in ("prompt_tokens", "answer_tokens"))
    return prompt[positions].tolist(), answer[positions].tolist()


def shortened(fitted: "Dataset", rows: list[Row]) -> int:
    """How many of the rows were shortened to the token budget."""
    return int(fitted.data.table["shortened"].to_numpy()[[row.position for row in rows]].sum())


def ordered(counts: Counter[str]) -> dict[str, int]:
    return dict(sorted((+counts).items()))
