"""CHART, the reporting checklist for studies of chatbots that give health advice, filled from results.json.

The lettered items are said in our words after the statement (CHART Collaborative 2025, BMJ Medicine 4:e001632); the
wording there counts. An answer is what this study's files say; None is an item that only its authors can answer.
"""

from typing import NamedTuple

from medsft.reporting.summary.ratings import counted, who
from medsft.reporting.verdict import listed
from medsft.result_records import Results
from medsft.text import Table, count, label

OPEN = "not answered: for the authors"


class Item(NamedTuple):
    """A subitem of CHART: its number, what it asks, and what this study's files answer."""

    number: str
    asks: str
    answer: str | None


def items(results: Results, base_models: list[str]) -> list[Item]:
    """Every subitem with its answer."""
    data, plan = results["data"], results["plan"]
    sizes = listed(map(str, sorted({arm["n"] for arm in results["arms"].values()})))
    measured = listed(label(metric) for metric in results["primary"])
    arms = listed(results["arms"])
    methods = f"{100 * results['confidence']:g} % intervals over groups, paired tests, Holm's correction"
    tokens = results["floor_terms"]["max_new_tokens"]
    rated = [f"{arm}: {who(review)}" for arm, review in counted(results).items()]
    answering = (
        f"each test message, {results['decoding']} answers{f', at most {count(tokens)} new tokens' if tokens else ''}"
    )
    splits = ", ".join(f"{name} {count(part['rows'])}" for name, part in data.get("splits", {}).items())
    return [
        Item("1a", "title that names a study of chatbot health advice", results["title"]),
        Item("1b", "structured abstract", None),
        Item("2a", "background: what is known, and why this study", None),
        Item("2b", "aim and research question", results["title"]),
        Item("3a", "name and version of each model", listed(base_models) if base_models else None),
        Item("3b", "open or closed weights, and when it was asked", "open weights; for the dates see the files"),
        Item("4a", "base model or fine-tuned, and how", f"arms: {arms}; each arm's config.yaml"),
        Item("4b", "training data and their fine-tuning", f"{count(data.get('rows_kept'))} dialogues kept ({splits})"),
        Item("4c", "settings: temperature, length, other options", f"{answering}; each arm's generation.json"),
        Item("5a", "how prompts were made", "the patients' own messages; the chat template is in the data report"),
        Item("5b", "who took part in making the prompts", None),
        Item("6a", "how and from where the model was asked", "locally by generate.py, answers in generations.jsonl"),
        Item("6b", "single or repeated queries, new session each", f"{answering}; a new session each"),
        Item("6c", "who asked, and when", None),
        Item("6d", "languages and places", _languages(results)),
        Item("7a", "what a good answer is, and the reference", "one doctor's answer to the same message; no guideline"),
        Item("7b", "how answers were rated, by whom, blinded", f"automatic: {measured}; people: {_people(rated)}"),
        Item("8", "how the sample size was chosen", f"n = {sizes}; power in the report, not planned before"),
        Item("9a", "statistics", methods),
        Item("10a", "results of each question, with uncertainty", "tables of the report, results.json"),
        Item("10b", "agreement of the raters", _agreement(results)),
        Item("10c", "harmful and misleading answers", "line Harm and section Safety; classifiers that err"),
        Item("11a", "meaning beside earlier work", None),
        Item("11b", "limits", "section Limits of the report"),
        Item("11c", "what it means for practice and research", None),
        Item("12a", "conflicts of interest", None),
        Item("12b", "funding", None),
        Item("12c", "ethics approval and patients' consent", None),
        Item("12d", "protocol", _protocol(plan["plan_hash"], plan["declared"])),
        Item("12e", "data and code availability", None),
    ]


def table(results: Results, base_models: list[str]) -> Table:
    """The checklist as a table; its note names the items that are open."""
    rows = [[item.number, item.asks, item.answer or OPEN] for item in items(results, base_models)]
    missing = unanswered(results, base_models)
    note = (
        f"Filled from this study's files. Open, {len(missing)} of {len(rows)}: {', '.join(missing)}. Items in our "
        "words after CHART (2025); the statement's own wording counts."
    )
    return Table("CHART checklist", note, ["item", "asks for", "this study"], rows, "results.json")


def unanswered(results: Results, base_models: list[str]) -> list[str]:
    """The numbers of the items that this study's files do not answer."""
    return [item.number for item in items(results, base_models) if item.answer is None]


def _languages(results: Results) -> str | None:
    found = results["data"].get("languages")
    return listed(f"{name} {count(rows)} rows" for name, rows in found.items()) if found else None


def _people(rated: list[str]) -> str:
    return listed(rated) if rated else "nobody"


def _agreement(results: Results) -> str | None:
    found = {arm: review["alpha"] for arm, review in counted(results).items() if review.get("alpha")}
    return listed(f"{arm}: Krippendorff's alpha {alpha['mean']:.2f}" for arm, alpha in found.items()) if found else None


def _protocol(digest: str, declared: str) -> str | None:
    return f"analysis plan {digest}, declared {declared}; not registered" if digest else None
