"""The numbers of data_report.json: where every row went, per reason, rule and source, with a sample of each rule."""

from collections import Counter
from typing import Any, NamedTuple

from medsft.data.groups.splitting import Row
from medsft.data.rules import rule_examples
from medsft.tokenization.control_tokens import as_text


class Tables(NamedTuple):
    """The rows after each step; row n of one is row n of all. `named` is `redacted` where Presidio is not used."""

    read: Any
    cleaned: Any
    redacted: Any
    named: Any
    keys: Any
    fitted: Any


def counts(
    tables: Tables,
    rejected: list[dict[str, Any]],
    rows: list[Row],
    unique: list[Row],
    near: Counter[str],
    parts: dict[str, list[Row]],
    rest: str,
) -> dict[str, Any]:
    """Where every row went. `rows` are those that cleaning left, `unique` those without their exact copies, `near` the
    near-duplicates by source; `rest` is the reason of rows that fit and are in none of the `parts`."""
    read, cleaned, redacted, named, _, fitted = (table.data.table for table in tables)
    placed = [row for part in parts.values() for row in part]
    fits = fitted["prompt_tokens"].to_numpy() > 0
    over = sum(not fits[row.place] for row in unique)
    dropped = Counter(row["reason"] for row in rejected) + tally(cleaned["dropped"]) + tally(redacted["dropped"])
    dropped += Counter(
        {
            "exact_duplicate": len(rows) - len(unique),
            "over_budget": over,
            rest: len(unique) - over - len(placed),
        }
    )
    repaired = tally(read["repairs"]) + tally(cleaned["fired"])
    repaired += Counter(
        {"sign_off": tally(redacted["fired"])["sign_off"], "control_tokens": int(fitted["broken"].to_numpy().sum())}
    )
    found = tally(redacted["redacted"]) + (tally(named["redacted"]) if named is not redacted else Counter())
    by_source_of = {name: Counter(row.source for row in part) for name, part in (("rows", rows), ("unique", unique))}
    lengths = {name: token_columns(fitted, part) for name, part in parts.items()}
    return {
        "rows_read": len(tables.read) + len(rejected),
        "rows_kept": len(placed),
        "dropped": ordered(dropped),
        "repaired": ordered(repaired),
        "redacted": ordered(found),
        "duplicates": {
            "exact": len(rows) - len(unique),
            "near": near.total(),
            "groups": len({row.group for row in placed}),
        },
        "splits": sizes(parts),
        "tokens": {name: token_counts(*columns) for name, columns in lengths.items()},
        "truncated": {"prompt": shortened(fitted, placed), "answer": 0},
        "leaking": shared_groups(parts),
        "sources": by_source(
            read=tally(read["source"]) + Counter(row["source"] for row in rejected),
            rejected=Counter(row["source"] for row in rejected),
            exact=by_source_of["rows"] - by_source_of["unique"],
            near=near,
            kept=Counter(row.source for row in placed),
        ),
        "lengths": [sum(pair) for pair in zip(*lengths["train"], strict=True)],
    }


def tally(column: Any) -> Counter[str]:
    """How often each value occurs in an Arrow column of texts or of lists of texts; '' is not counted."""
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
    """{source: {what: count}} from one Counter of sources for each thing counted."""
    sources = sorted(set().union(*columns.values()))
    return {source: {name: counts[source] for name, counts in columns.items()} for source in sources}


def shared_groups(parts: dict[str, list[Row]]) -> int:
    """Rows outside train that share a group with a row of it: 0 for every split but the study's."""
    train = {row.group for row in parts["train"]}
    return sum(row.group in train for name, rows in parts.items() if name != "train" for row in rows)


def samples(tables: Tables, tokenizer: Any, clean_skip: list[str], keep: list[str]) -> dict[str, dict[str, str]]:
    """What each rule did to the first row it fired in, and so each step that has no rules."""
    found = rule_examples.of_cleaning(tables.read, tables.cleaned, clean_skip)
    found |= rule_examples.of_identifiers(tables.cleaned, tables.redacted, keep)
    if tables.named is not tables.redacted:
        found |= rule_examples.of_names(tables.redacted, tables.named)
    first = int(tables.fitted.data.table["broken"].to_numpy().argmax())
    typed = [{"content": turn["text"]} for turn in tables.named[first]["turns"]]
    after = [message["content"] for message in as_text(tokenizer, typed)]
    return found | rule_examples.of_step("control_tokens", [message["content"] for message in typed], after)


def token_columns(fitted: Any, rows: list[Row]) -> tuple[list[int], list[int]]:
    """Prompt and answer tokens of the rows, in order; `fitted` is the table of the step 'tokens'."""
    places = [row.place for row in rows]
    prompt, answer = (fitted[name].to_numpy() for name in ("prompt_tokens", "answer_tokens"))
    return prompt[places].tolist(), answer[places].tolist()


def shortened(fitted: Any, rows: list[Row]) -> int:
    """How many of the rows gave way to the token budget."""
    return int(fitted["shortened"].to_numpy()[[row.place for row in rows]].sum())


def ordered(counts: Counter[str]) -> dict[str, int]:
    return dict(sorted((+counts).items()))
