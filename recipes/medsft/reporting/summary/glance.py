"""The report's first four lines: is it better, does it harm, what does it cost, can it be trusted?

For a reader who is no statistician: whole counts, no p-values. Everything is computed from results.json's content. Of
several seeds of a method the least and the most are said.
"""

import re
from collections.abc import Mapping, Sequence

from medsft.records import Difference, Interval
from medsft.reporting.sections import forgetting_table, tuning
from medsft.reporting.summary import arm_words, metric_groups
from medsft.reporting.summary.ratings import for_trust, harm_marked, preferred
from medsft.reporting.verdict import by_subject, listed, outcome
from medsft.result_records import Results
from medsft.text import by_method, count, label, least_to_most, whole_or_tenths

PROMPTED = ("baseline_prompted", "baseline_fewshot")  # arms of the untrained model with a better prompt
SIDES = ((all, "better"), (any, "worse"))  # than all prompts, than one of them
UNTRAINED = "baseline_"  # begins the names of the untrained model's other arms


def lines(results: Results) -> dict[str, str]:
    """The four lines by their name, in the order they are shown."""
    return {
        "Better?": better(results),
        "Harm": harm(results),
        "Cost": cost(results),
        "Trust": trust(results),
    }


def explained(results: Results) -> tuple[dict[str, str], list[str]]:
    """The four lines with each arm's name in plain words where it stands first, and the words of arms not named."""
    return arm_words.explained(lines(results), results["arms"])


def better(results: Results) -> str:
    """In how many of the declared measures each arm is better or worse, and against answers that need no model."""
    found = {name: rows for name, rows in by_subject(results).items() if not name.startswith("the untrained arm")}
    if not found:
        return "Nothing can be said yet: no trained arm was compared with the untrained model."
    said = []
    for name, rows in found.items():
        words = {row["metric"]: outcome(row, results["alpha"]) for row in rows}
        up, down = _on(words, "better"), _on(words, "worse")
        if up and down:
            text = f"mixed (better on {up}; worse on {down})"
        elif up:
            text = f"{'yes' if {*words.values()} == {'better'} else 'partly'} (better on {up})"
        elif down:
            text = f"no, worse (on {down})"
        else:
            text = f"not shown (no difference on {len(words)} measures)"
        said.append(f"{_short(name)} {text}")
    sizes = sorted({row["n"] for rows in found.values() for row in rows})
    n = str(sizes[0]) if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]}"
    first = f"Nearer to the doctors' answers than the untrained model: {'; '.join(said)}."
    last = f"Measures: {_measures(results['primary'])}; n = {n} dialogues."
    said = [first, _prompted(results), _naive(results), preferred(results), last]
    return " ".join(filter(None, said))


def _on(words: Mapping[str, str], side: str) -> str:
    """'3 of 5 measures', with their names where they are one or two; '' where it is none."""
    found = [metric for metric, word in words.items() if word == side]
    if not found:
        return ""
    named = f": {listed(map(_plain, found))}" if len(found) < min(3, len(words)) else ""
    return f"{len(found)} of {len(words)} measures{named}"


def _measures(metrics: Sequence[str]) -> str:
    """'ROUGE-1 and ROUGE-L (words shared with the doctor's answer), bits per byte (how much ...)'."""
    groups = metric_groups.grouped(metrics)
    return ", ".join(listed(map(_plain, some)) + (f" ({group.brief})" if group.brief else "") for group, some in groups)


def _plain(metric: str) -> str:
    """'bits per byte (mean of answers)' -> 'bits per byte'."""
    return label(metric).split(" (")[0]


def harm(results: Results) -> str:
    """Emergencies sent to urgent care, loops, broken guardrails and answers that people marked unsafe, by method."""
    parts = []
    recall, messages = _counts(results, "red_flag_recall")
    if recall:
        others, calm = _counts(results, "over_escalation")
        also = f"; of {calm} other messages: {_said(others)}" if others else ""
        parts.append(f"Sent to urgent care, of {messages} messages read as emergencies: {_said(recall)}{also}.")
        most = max(max(hits) for hits in recall.values())
        if messages and not most:
            parts.append("No arm sent any emergency to care.")
        elif most < messages / 2:
            parts.append("Each misses most emergencies.")
        parts.append(misread(results))
    else:
        parts.append("Whether emergencies are sent to care is unknown: no test message is one.")
    for metric, what in (("loop", "Answers that loop"), ("identity", "Answers with an invented identity")):
        found, total = _counts(results, metric)
        if any(any(hits) for hits in found.values()):
            parts.append(f"{what}, of {total}: {_said(found)}.")
    if forgot := forgetting_table.losses(results):
        parts.append(f"Forgotten, of general questions: {'; '.join(forgot)}.")
    broken = [
        name + (f" ({sum(seeds)} of {len(seeds)} seeds)" if len(seeds) > 1 else "")
        for name, seeds in by_method({row["arm"]: row["verdict"] == "broken" for row in results["guardrails"]}).items()
        if any(seeds)
    ]
    if any(len(seeds) > 1 for seeds in by_method(results["cost"]).values()):
        parts.append("A range is over training seeds.")
    if broken:
        parts.append(f"The guardrail on emergencies is broken by {listed(broken)}.")
    parts.append(harm_marked(results) or "No clinician has read the answers: other harm is unknown.")
    return " ".join(filter(None, [*parts, "No arm is shown to be safe."]))


def _said(counts: Mapping[str, Sequence[float]]) -> str:
    """'baseline 6, lora 0 to 4.5'."""
    return ", ".join(f"{name} {least_to_most(hits, whole_or_tenths)}" for name, hits in counts.items())


def misread(results: Results) -> str:
    """How many of such readings are right on consultations of ordinary length; '' where that was not measured."""
    measured = results["safety_instrument"].get("messages", {}).get("sample")
    if not measured or measured["precision"]["value"] is None:
        return ""
    right, n = measured["precision"]["hits"], measured["precision"]["n"]
    return f"The reading counts too many: of {n} so read in a labelled sample {right} are."


def cost(results: Results) -> str:
    """Minutes, peak memory and trained share of each method's training."""
    said = []
    for name, arms in by_method({arm: arm for arm in results["cost"]}).items():
        spent = [results["cost"][arm] for arm in arms]
        minutes = [each["wall_seconds"] / 60 for each in spent if each["wall_seconds"]]
        peaks = [peak for arm in arms if arm in results["memory"] and (peak := results["memory"][arm]["measured"])]
        gigabytes = [max(peak["device_bytes"], peak["host_bytes"]) / 1e9 for peak in peaks]
        prices = [price for arm in arms if (price := results["price"].get(arm)) is not None]
        parts = [least_to_most(minutes, "{:.1f}".format) + " min" if minutes else "time unknown"]
        parts += [f"for each of {len(arms)} seeds" if len(arms) > 1 else "", tuning.minutes(results, arms[0])]
        parts += [least_to_most(gigabytes, "{:.1f}".format) + " GB" if gigabytes else ""]
        parts += [f"{spent[0]['trainable_percent']:.3g} % of the weights" if spent[0]["trainable_percent"] else ""]
        parts += [f"price {least_to_most(prices, count)}" if prices else ""]
        said.append(f"{name} {', '.join(filter(None, parts))}")
    return f"Training: {'; '.join(said)}." if said else "No arm was trained, so nothing was spent."


def trust(results: Results) -> str:
    """How many dialogues, seeds and training rows; what people have rated; on what the answers were computed."""
    sizes = sorted({arm["n"] for arm in results["arms"].values()})
    parts = [f"{listed(map(str, sizes))} test dialogues."]
    repeated = {row["method"]: row["seeds"] for row in results["seeds"]}
    if repeated:
        said = (f"{name} with {n} seeds" for name, n in repeated.items())
        parts.append(f"Trained more than once: {listed(said)}.")
    elif results["cost"] and all(len(arms) == 1 for arms in by_method(results["cost"]).values()):
        parts.append("Each arm was trained once: another seed may reverse the order.")
    parts.append(for_trust(results))
    if results["decoding"] != "greedy":
        parts.append(f"Scores are of {results['decoding']} answers, so counts are means over draws.")
    parts.append(arithmetic(results))
    if not results["plan"]["plan_hash"]:
        parts.append("No analysis plan was declared before the answers.")
    return " ".join(filter(None, parts))


def arithmetic(results: Results) -> str:
    """The precision of training, answers and BERTScore; that a processor's speed chose it, where one did the work."""
    found, places = results["arithmetic"], results["computed_on"]
    trained = sorted(set(found["training"].values()))
    parts = [f"trained in {listed(trained)}" if trained else "", f"answered in {listed(places)}" if places else ""]
    parts += [f"BERTScore in {found['bertscore']}" if found["bertscore"] else ""]
    if not any(parts):
        return ""
    chosen = ", in which this processor is fastest" if found["processor"] else ""
    said = ", ".join(filter(None, parts))
    return f"Arithmetic: {said}{chosen}; another precision may change small differences."


def _prompted(results: Results) -> str:
    """Each trained arm against the untrained model with a better prompt, where that was run."""
    rows = [row for row in results["pairs"] if row["baseline"] in PROMPTED and row["metric"] in results["primary"]]
    said, repeated = [], {row["method"] for row in results["seeds"]}
    for arm in dict.fromkeys(row["arm"] for row in rows):
        words = _outcomes(rows, arm, results["alpha"])
        up, down = (sum(kind(word == side for word in some) for some in words.values()) for kind, side in SIDES)
        seed = f" (seed {results['cost'][arm]['seed']} alone)" if arm in repeated else ""
        said.append(f"{arm}{seed} better on {up} and worse on {down} of {len(words)}")
    others = listed(name for name in PROMPTED if any(row["baseline"] == name for row in rows)) if rows else ""
    return f"Against other prompts, {others}: {', '.join(said)}." if said else ""


def _naive(results: Results) -> str:
    """Which methods do not beat the best answer that needs no model, on how many measures."""
    rows = [row for row in results["floor_comparisons"] if row["metric"] in results["primary"]]
    above: dict[str, int] = {}
    measures = 0
    for arm in [name for name in results["arms"] if name in results["cost"]]:
        words = _outcomes(rows, arm, results["alpha"])
        if words:
            measures = len(words)
            above[arm] = sum(all(word == "better" for word in some) for some in words.values())
    if not above:
        return ""
    if not any(above.values()):
        return f"No arm beats all answers that need no model, on any of {measures} measures."
    said = [f"{name} on {least_to_most(each)} of {measures}" for name, each in by_method(above).items()]
    return f"Better than all answers that need no model: {', '.join(said)}."


def _outcomes(rows: Sequence[Difference], arm: str, alpha: float) -> dict[str, list[str]]:
    """{metric: what each comparison of the arm shows: 'better', 'worse' or neither}."""
    words: dict[str, list[str]] = {}
    for row in rows:
        if row["arm"] == arm:
            words.setdefault(row["metric"], []).append(outcome(row, alpha))
    return words


def _counts(results: Results, metric: str) -> tuple[dict[str, list[float]], int]:
    """{method: answers that have it, of each seed} of a share, for the untrained model and the trained ones; and of how
    many questions. A count is a mean over the draws of a question, so that it need not be whole.
    """
    found: dict[str, float] = {}
    total = 0
    for name, arm in results["arms"].items():
        if name.startswith(UNTRAINED):  # other prompts and precisions are in the table of safety
            continue
        value: Interval | None = arm["metrics"].get(metric)
        if value is not None:
            n = value.get("n", arm["n"])
            found[name] = round(value["mean"] * n, 6)
            total = total or n
    return by_method(found), total


def _short(subject: str) -> str:
    """'the trained model lora (seed 42)' -> 'lora'; 'the method lora (3 seeds)' -> 'lora, 3 seeds:'."""
    name = subject.removeprefix("the trained model ").removeprefix("the method ").removeprefix("the untrained arm ")
    return re.sub(r" \((\d+ seeds)\)$", r", \1:", name.split(" (seed ")[0])
