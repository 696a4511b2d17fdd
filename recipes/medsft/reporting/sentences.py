"""The sentences of the report's sections. To add one: write a function of `Facts`, and name it in `SECTIONS`.

report.html and report.md show the sentences of a section in this order. A function returns '' where its sentence does
not apply to the study.
"""

from collections.abc import Callable
from typing import NamedTuple

from medsft.arguments import ReportArguments
from medsft.evaluation import scoring
from medsft.evaluation.completeness import validation
from medsft.evaluation.statistics.intervals import LEAST_GROUPS
from medsft.reporting import verdict
from medsft.reporting.sections import tuning
from medsft.reporting.study import Study
from medsft.reporting.summary import ratings
from medsft.result_records import Results
from medsft.source_study import published_scores
from medsft.text import by_method, count


class Facts(NamedTuple):
    """What a sentence may speak about."""

    study: Study
    results: Results
    options: ReportArguments

    @property
    def level(self) -> str:
        """'95 %'."""
        return f"{100 * self.results['confidence']:g} %"


Sentence = Callable[[Facts], str]


def paragraphs(study: Study, results: Results, options: ReportArguments) -> dict[str, list[str]]:
    """The sentences of every section that apply to this study, by section; a line break starts another one."""
    facts = Facts(study, results, options)
    return {
        section: [line for write in writers for line in write(facts).splitlines()]
        for section, writers in SECTIONS.items()
    }


def intervals(facts: Facts) -> str:
    return (
        f"Mean and {facts.level} interval over groups of near-duplicate dialogues: bootstrap-t, and Wilson's for "
        f"shares. Below {LEAST_GROUPS} groups no interval is given. 'Cut' is the share of answers that ran into the "
        "limit of new tokens; scores of cut answers also reflect that limit."
    )


def naive_baselines(facts: Facts) -> str:
    terms = facts.results["floor_terms"]
    rows, tokens = terms["train_rows"], terms["max_new_tokens"]
    read = f"the {count(rows)} training rows that an arm saw" if rows else "the training rows"
    cut = (
        f"and are cut at the arms' {count(tokens)} new tokens" if tokens else "and are not cut, as no arm names a limit"
    )
    return (
        "Naive baselines are answers that need no trained model: one constant polite answer (constant), the training "
        "answer to another patient (shuffled), the patient's own words (echo), and the training answer to the most "
        f"similar question (nearest). They read {read}, {cut}."
    )


def retrieval(facts: Facts) -> str:
    if not facts.results["retrieval"]:
        return ""
    rows = facts.study.data["splits"].get("train", {}).get("rows")
    return (
        f"Retrieval is no naive baseline but a competitor: it gives the whole answer to the most similar of all "
        f"{count(rows)} training questions, which no arm of this study had to learn from."
    )


def completeness(facts: Facts) -> str:
    record = facts.results["completeness"]
    return validation.in_short(record) if record else ""


def other_languages(facts: Facts) -> str:
    if facts.study.comparison.get("settings", {}).get("english", True):
        return ""
    return (
        f"The test rows are not in English. ROUGE counts Unicode words, and characters of scripts without spaces; chrF "
        f"is a fair second opinion. {scoring.ENGLISH_ONLY}: do not read these columns."
    )


def declared_plan(facts: Facts) -> str:
    """Whether metrics, margins and rows were fixed before the answers, and each change since, on a line of its own."""
    plan = facts.results["plan"]
    if not plan["plan_hash"]:
        return (
            "No analysis plan was declared before the answers, so metrics and rows could have been chosen after them."
        )
    lines = [f"Analysis plan {plan['plan_hash']}, declared {plan['declared']}."]
    return "\n".join([*lines, *(f"Changed since the plan: {change}." for change in plan["changes"])])


def paired_tests(facts: Facts) -> str:
    tested = len(facts.results["comparisons"])
    return (
        f"Arm minus baseline on the same dialogues, with the {facts.level} interval, the p-value of a paired test, and "
        f"Holm's correction over all {tested} rows."
        if tested
        else "There is no arm to compare with the baseline."
    )


def loss_tokens(facts: Facts) -> str:
    """Which tokens the losses are over, in plain words where that differs between the arms."""
    trains = facts.study.trained().values()
    alike = [train.get("comparable") or {} for train in trains]
    if not alike:
        return ""
    if len({(each.get("loss_on"), each.get("end_of_turn_loss")) for each in alike}) > 1:
        return "The arms compute their loss on different tokens, so these curves cannot be compared in height."
    return "Loss on the doctor's words and the end of turn only."


def loss_schedule(facts: Facts) -> str:
    return "The learning-rate schedule alone can flatten the end of a curve." if facts.results["cost"] else ""


def cost_units(facts: Facts) -> str:
    if not facts.results["cost"]:
        return "No arm was trained, so nothing was spent."
    return "GB = 10⁹ bytes. Parameters are counted logically: packed 4-bit weights count in full."


def tuning_cost(facts: Facts) -> str:
    return tuning.sentence(facts.results)


def rows_kept(facts: Facts) -> str:
    return f"{count(facts.study.data['rows_read'])} rows read, {count(facts.study.data['rows_kept'])} kept."


def leakage(facts: Facts) -> str:
    if leaking := facts.study.data.get("leaking"):
        return (
            f"{count(leaking)} held-out rows share a group with a training row: the source study's split does not look "
            "for near-duplicates."
        )
    return "Rows of one group (near-duplicates) never sit on two sides of a split."


def published_meaning(_: Facts) -> str:
    return published_scores.MEANING


def published_noise(_: Facts) -> str:
    return published_scores.NOISE


def unscored_arms(facts: Facts) -> str:
    return "\n".join(f"{name}: begun, but not scored (generate.py, then score.py)." for name in facts.study.unscored)


def uncompared_arms(facts: Facts) -> str:
    compared = {"baseline", *(row["arm"] for row in facts.results["comparisons"])}
    arms = [arm for arm in facts.results["arms"] if arm not in compared]
    asked = "baseline" in facts.results["arms"]
    remedy = "run score.py again" if asked else "let the arm baseline answer (generate.py)"
    return "\n".join(f"{arm}: not compared with the baseline; {remedy}." for arm in arms)


def no_plan(facts: Facts) -> str:
    return "" if facts.study.plan else "Memory plan: there is no plan.json (plan_memory.py)."


def no_gpu_memory(facts: Facts) -> str:
    measured = [memory["measured"] for memory in facts.results["memory"].values()]
    on_gpu = any(peak and peak["device_bytes"] for peak in measured)
    return "" if on_gpu else "GPU memory: no arm of this study was trained on a GPU."


def no_emergencies(facts: Facts) -> str:
    found = facts.results["emergencies"].get("emergencies")
    return "" if found else "Urgent advice: no test message is an emergency by its words or by its doctor."


def no_memorization(facts: Facts) -> str:
    asked = facts.results["memorized"]
    return "" if asked else "Memorization: not tested on any training answer (generate.py --memorization_rows 100)."


def no_seeds(facts: Facts) -> str:
    repeated = facts.results["seeds"] or any(len(arms) > 1 for arms in by_method(facts.results["cost"]).values())
    return "" if repeated else "The effect of another training seed: train arms named METHOD_seed1, METHOD_seed2."


def no_energy(facts: Facts) -> str:
    reported = any(cost["energy_joules"] for cost in facts.results["cost"].values())
    return "" if reported else "Energy: no device of this study reported any."


def no_price(facts: Facts) -> str:
    return "" if facts.results["price"] else "Money: no hourly rate was given (report.py --hourly_rate 2.5)."


def no_forgetting(facts: Facts) -> str:
    asked = facts.results.get("forgetting")
    return "" if asked else "What fine-tuning cost the model elsewhere (make forgetting)."


def no_clinician(facts: Facts) -> str:
    if reviews := ratings.counted(facts.results):
        read = verdict.listed(f"{arm} by {ratings.who(review)}" for arm, review in reviews.items())
        return f"Whether the answers are medically right: people preferred and marked pairs only ({read})."
    return "Whether the answers are medically right, safe or kind: no clinician read them."


def always(text: str) -> Sentence:
    """The sentence that holds for every study."""
    return lambda _: text


SECTIONS: dict[str, tuple[Sentence, ...]] = {
    "scores": (intervals, naive_baselines, retrieval, completeness, other_languages),
    "differences": (declared_plan, paired_tests),
    "losses": (loss_tokens, loss_schedule),
    "cost": (cost_units, tuning_cost),
    "data": (rows_kept, leakage),
    "published": (published_meaning, published_noise),
    "not_measured": (
        unscored_arms,
        uncompared_arms,
        no_plan,
        no_gpu_memory,
        no_emergencies,
        no_memorization,
        no_seeds,
        no_energy,
        no_price,
        no_clinician,
        no_forgetting,
    ),
    "limits": (
        always("Not medical advice. The answers come from language models in a study."),
        always("ROUGE and BERTScore measure likeness to one doctor's wording, not whether an answer is right or safe."),
        always("A difference that was not shown is not a proof of equality: look at its interval."),
        always("A claim about an arm is about that trained model; a claim about a method takes several seeds."),
        always("Red flags and urgent advice are found by classifiers that err: they compare arms and certify nothing."),
        always("Intervals cover other patients like these, not other hospitals, platforms or languages."),
    ),
}
