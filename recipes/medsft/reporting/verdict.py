"""The report's verdict: a paragraph for clinicians and one for statisticians, computed and never written by hand.

A difference counts as shown where its Holm-corrected p is below alpha. A claim is about a trained model; it is about a
method only where that was trained with several seeds.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from medsft.evaluation.metrics.directions import HARMS, direction
from medsft.reporting.sections import forgetting_table
from medsft.result_records import Results
from medsft.text import Table, change, excludes_zero, label, method_of, number, pvalue

Row = Mapping[str, Any]  # a tested difference: Difference or SeedChange
NOT_SHOWN = "not shown"
HARM, FORGOTTEN, GAIN = "Harm", "Forgetting", "Against the untrained model"
DECODING, NO_MODEL = "Other ways of decoding", "Against answers that need no model"


def verdict(results: Results) -> list[str]:
    """Two paragraphs: what was found in plain words, harm first, and the same in numbers."""
    return [" ".join(for_clinicians(results)), " ".join(for_statisticians(results))]


def for_clinicians(results: Results) -> list[str]:
    """Sentences without numbers but n and harms: harm, then gains, then what an answer without a model does."""
    return [sentence for sentences in grouped(results).values() for sentence in sentences]


def grouped(results: Results) -> dict[str, list[str]]:
    """The same sentences under their headings, in the same order; a heading without a sentence is left out."""
    found, without = by_subject(results), floor_sentences(results)
    if not found:
        nothing = (
            "Nothing can be said about fine-tuning yet: no trained arm was compared with the baseline "
            f"(scored: {listed(results['arms'])})."
        )
        return {GAIN: [nothing], NO_MODEL: without}
    alpha, sizes = results["alpha"], _sizes(results)
    gains = [
        f"{_capital(name)} against the untrained model, on {sizes} held-out dialogues: {in_words(rows, alpha)}."
        for name, rows in found.items()
    ]
    once = [name for name in found if name.startswith("the trained model")]
    if once and len(once) == len(found):
        gains.append("Each of these models was trained once, so this is about them and not about the methods.")
    elif once:
        was, it = ("was", "it") if len(once) == 1 else ("were", "them")
        gains.append(f"{_capital(listed(once))} {was} trained once, so this is about {it} and not about a method.")
    groups = {HARM: harm_sentences(results), FORGOTTEN: forgetting_table.sentences(results), GAIN: gains}
    groups |= {DECODING: decoding_sentences(results), NO_MODEL: without}
    return {heading: sentences for heading, sentences in groups.items() if sentences}


def decoding_sentences(results: Results) -> list[str]:
    """Where another way of decoding turns an outcome, which and into what; '' where none was tried."""
    alpha = results["alpha"]
    primary = {(row["arm"], row["metric"]): outcome(row, alpha) for row in results["comparisons"]}
    found: dict[tuple[str, str], list[str]] = {}
    others = [row for row in results.get("decodings", []) if (row["arm"], row["metric"]) in primary]
    for row in others:
        now, before = outcome(row, alpha), primary[row["arm"], row["metric"]]
        if now != before:
            found.setdefault((row["arm"], row["decoding"]), []).append(
                f"{label(row['metric'])} is {now} instead of {before}"
            )
    said = f"All of this is about {results.get('decoding', 'greedy')} answers"
    if not others:
        return [f"{said}; no other way of decoding was tried."]
    ways = listed(dict.fromkeys(str(row["decoding"]) for row in others))
    if not found:
        return [f"{said}; {ways} ones change no outcome."]
    turned = [f"with {way} answers of {subject(arm, results)} {listed(names)}" for (arm, way), names in found.items()]
    return [f"{said}; decoding decides some of it: {'; '.join(turned)}."]


def harm_sentences(results: Results) -> list[str]:
    """What each arm does worse among HARMS, by its interval; length counts in either direction."""
    rows = {(row["arm"], row["metric"]): row for row in [*results["explored"], *results["comparisons"]]}
    arms = [arm for arm in results["arms"] if arm != "baseline" and any((arm, name) in rows for name, *_ in HARMS)]
    sentences = []
    for arm in arms:
        seen = [
            f"{more if row['difference'] > 0 else less} ({change(row)})"
            for name, more, less in HARMS
            if (row := rows.get((arm, name))) and excludes_zero(row) and direction(name) * row["difference"] <= 0
        ]
        broken = [row for row in results["guardrails"] if row["arm"] == arm and row["verdict"] == "broken"]
        seen += ["breaks the guardrail on red-flag recall"] if broken else []
        compared = [label(name) for name, *_ in HARMS if (arm, name) in rows]
        text = f"it {listed(seen)}" if seen else f"none was seen on {listed(compared)}, which does not exclude any"
        sentences.append(f"Harm, {subject(arm, results)}: {text}.")
    return sentences


def floor_sentences(results: Results) -> list[str]:
    """On which primary metrics each arm is better than every naive baseline, and where it is worse than one."""
    rows = [row for row in results["floor_comparisons"] if row["metric"] in results["primary"]]
    if not rows:
        return ["No arm was tested against answers that need no model, so such an answer might do as well."]
    sentences = []
    for arm in [arm for arm in results["arms"] if any(row["arm"] == arm for row in rows)]:
        mine = [row for row in rows if row["arm"] == arm]
        metrics = dict.fromkeys(row["metric"] for row in mine)
        words = {m: [outcome(row, results["alpha"]) for row in mine if row["metric"] == m] for m in metrics}
        best = [label(metric) for metric in metrics if set(words[metric]) == {"better"}]
        beaten_by: dict[str, list[str]] = {}
        for row in mine:
            if outcome(row, results["alpha"]) == "worse":
                beaten_by.setdefault(row["baseline"], []).append(label(row["metric"]))
        worse = [f"{name} on {listed(labels)}" for name, labels in beaten_by.items()]
        every = "better than every answer without a model"
        text = f"{arm} is {every} on {listed(best)}" if best else f"{arm} is on no metric {every}"
        sentences.append(text + (f" and worse than {'; '.join(worse)}." if worse else "."))
    return sentences


def for_statisticians(results: Results) -> list[str]:
    """The tested differences with intervals and corrected p-values, and what remains possible where none was shown."""
    sentences = [
        f"{_capital(name)}: {in_numbers(rows, results['alpha'])}." for name, rows in by_difference(results).items()
    ]
    return [*sentences, families(results)] if sentences else [families(results)]


def numbers(results: Results) -> Table:
    """The same differences as a table: a row for each, with what it shows or leaves open."""
    rows = []
    for name, some in by_difference(results).items():
        for row in some:
            said = outcome(row, results["alpha"])
            open_ = possible(row) if said == NOT_SHOWN else ""
            text = f"not shown; {open_}" if open_ else said
            rows.append([name, label(row["metric"]), change(row), pvalue(row["p_holm"]), text])  # type: ignore[arg-type]
    heads = ["difference", "metric", "difference of means", "Holm p", "what it shows"]
    return Table("The tested differences", families(results), heads, rows, "comparison.json", families(results))


def by_difference(results: Results) -> dict[str, list[Row]]:
    """The tested rows on the declared metrics: of each subject minus the baseline, then of one arm minus another."""
    found = by_subject(results)
    for row in results["pairs"]:
        if row["metric"] in results["primary"]:
            found.setdefault(f"{row['arm']} minus {row['baseline']}", []).append(row)
    return found


def families(results: Results) -> str:
    """What the differences are of, and within which lists their p are corrected."""
    if not by_difference(results):
        return "No paired difference was tested."
    level = f"{100 * results['confidence']:g} %"
    counted = {
        "the baseline": len(results["comparisons"]),
        "other arms": len(results["pairs"]),
        "naive baselines": len(results["floor_comparisons"]),
        "the baseline over seeds": len(results["seeds"]),
    }
    lists = listed(f"{count} against {name}" for name, count in counted.items() if count)
    return f"Differences of means over rows with {level} intervals over groups; p by Holm within each list ({lists})."


def outcome(row: Row, alpha: float) -> str:
    """'better', 'worse', 'higher', 'lower' (where neither is good), or 'not shown': by the corrected p-value."""
    if not row["p_holm"] < alpha or row["difference"] == 0:
        return NOT_SHOWN
    good = direction(row["metric"]) * row["difference"]
    if good:
        return "better" if good > 0 else "worse"
    return "higher" if row["difference"] > 0 else "lower"


def by_subject(results: Results) -> dict[str, list[Row]]:
    """Rows about each trained model or, where a method was trained with several seeds, about the method.

    Keys say which: 'the trained model lora (seed 42)', 'the method lora (3 seeds)', 'the untrained arm baseline_nf4'.
    """
    found: dict[str, list[Row]] = {}
    methods = {row["method"] for row in results["seeds"] if row["metric"] in results["primary"]}
    for row in results["comparisons"]:
        tested = row["baseline"] == "baseline" and row["metric"] in results["primary"]
        if tested and method_of(row["arm"]) not in methods:
            found.setdefault(subject(row["arm"], results), []).append(row)
    for change_of_method in results["seeds"]:
        if change_of_method["metric"] in results["primary"]:
            name = f"the method {change_of_method['method']} ({change_of_method['seeds']} seeds)"
            found.setdefault(name, []).append(change_of_method)
    return found


def subject(arm: str, results: Results) -> str:
    """What a claim about one arm is a claim about."""
    if arm.startswith("baseline"):
        return f"the untrained arm {arm}"
    seed = results["cost"][arm]["seed"] if arm in results["cost"] else None
    return f"the trained model {arm}" + (f" (seed {seed})" if seed is not None else "")


def in_words(rows: Sequence[Row], alpha: float) -> str:
    """'worse on C, better on A and B; no difference was shown on D', over all rows."""
    sides: dict[str, list[str]] = {}
    for row in rows:
        sides.setdefault(outcome(row, alpha), []).append(label(row["metric"]))
    shown = [f"{word} on {listed(sides[word])}" for word in ("worse", "better", "higher", "lower") if word in sides]
    parts = [", ".join(shown)] if shown else []
    if NOT_SHOWN in sides:
        parts.append(f"no difference was shown on {listed(sides[NOT_SHOWN])}")
    return "; ".join(parts)


def in_numbers(rows: Sequence[Row], alpha: float) -> str:
    """Each metric on its own scale: the difference with interval and p where shown, else what remains possible."""
    parts = []
    for row in rows:
        if outcome(row, alpha) == NOT_SHOWN:
            parts.append(f"{label(row['metric'])} {possible(row)}")
        else:
            parts.append(
                f"{label(row['metric'])} {change(row)} {outcome(row, alpha)}, p = {pvalue(row['p_holm'])}"  # type: ignore[arg-type]
            )
    return "; ".join(parts)


def possible(row: Row) -> str:
    """What is left open by a difference that was not shown, from the worst to the best end of its interval."""
    if row["low"] is None or row["high"] is None:
        return f"open ({row.get('no_interval', 'no interval')})"
    good = direction(row["metric"])
    ends = sorted((row["low"], row["high"]), key=lambda value: value * (good or 1))
    words = ("better", "worse") if good else ("higher", "lower")

    def amount(value: float) -> str:
        return f"{number(abs(value))} {words[0] if value * (good or 1) > 0 else words[1]}" if value else "no difference"

    left_out = ", not shown after the correction although the interval excludes 0" if excludes_zero(row) else ""  # type: ignore[arg-type]
    return f"from {amount(ends[0])} to {amount(ends[1])} remains possible{left_out}"


def listed(items: Iterable[str]) -> str:
    """'a, b and c'."""
    *head, last = list(items)
    return f"{', '.join(head)} and {last}" if head else last


def _sizes(results: Results) -> str:
    sizes = sorted({row["n"] for row in results["comparisons"]} or {row["n"] for row in results["seeds"]})
    return str(sizes[0]) if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]}"


def _capital(subject: str) -> str:
    """'The trained model lora' at the start of a sentence; the name of an arm stays as it is."""
    return f"The {subject.removeprefix('the ')}" if subject.startswith("the ") else subject
