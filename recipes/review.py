"""Which answer is better, the arm's or the baseline's? A blinded review form for physicians, and an LLM judge.

    python recipes/review.py --study_dir runs/demo --arm lora
    python recipes/chat.py --study_dir runs/demo --review_only true
    python recipes/review.py --study_dir runs/demo --arm lora --sheets doctor_a.csv doctor_b.csv
    python recipes/review.py --study_dir runs/demo --arm lora --sheets doctor_a.csv \
        --endpoint http://127.0.0.1:8000/v1 --model Qwen/Qwen3-8B

    python recipes/review.py --study_dir runs/demo --arm lora --sheets doctor_a.csv --preferences pairs.jsonl
    python recipes/review.py --labels statements.jsonl --endpoint http://127.0.0.1:8000/v1 --model Qwen/Qwen3-8B

Writes the review form STUDY_DIR/review/ARM_sheet.csv (two answers a row, sides drawn, no arm named: write 1, 2 or
tie; your role, such as physician, in any row) and a key, which stays here. The form is filled in as a spreadsheet, or
on the page of chat.py, whose ratings are found without --sheets. A copy of each sheet is kept beside the form, and
every later run counts it too. Forms that are filled in give preferences with intervals, Cohen's kappa between two
raters and Krippendorff's alpha of all, and each rater's leaning to the first or the longer answer. Some pairs come
twice, to see whether a rater is constant. A judge sees every pair in both orders; its agreement with the physicians is
printed before its verdicts, and how often it gave none. With --judge_pairs it reads pairs that nobody rated, and its
preference is corrected by the physicians' (prediction-powered inference).
--labels measures a judge on statements that physicians labelled. Forms are matched by id; one whose answers were made
anew since is refused. All goes to ARM_review.json, from which report.py takes it.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medsft.arguments import ReviewArguments
from medsft.cli import run
from medsft.config import parse
from medsft.errors import UserError
from medsft.files import fingerprint, read_json, sha256_file, write_json, write_jsonl
from medsft.inference import generations_file
from medsft.inference.generations_file import BASELINE
from medsft.records import Generation, Interval, Json
from medsft.study import lineage
from medsft.study.names import existing_study
from medsft.text import interval, number

if TYPE_CHECKING:
    from medsft.evaluation.review.biases import Biases
    from medsft.evaluation.review.human_review import Pair, Rating
    from medsft.evaluation.review.llm_judge import Judge
    from medsft.evaluation.review.rater_agreement import Preference


def main() -> None:
    (args,) = parse([ReviewArguments])

    from medsft.evaluation.review import human_review, llm_judge, rated_forms, rater_agreement

    study, judge = Path(args.study_dir), llm_judge.Judge(args.endpoint, args.model, args.rubric)
    if args.endpoint:
        llm_judge.check(judge, args.allow_remote)
    if args.labels:
        validate_judge(args, judge, study / "review")
        return
    arms = generations_file.read_arms(existing_study(study))
    for name in (BASELINE, args.arm):
        if name not in arms:
            raise UserError(f"{study}: '{name}' has no generations.jsonl; answered are {', '.join(arms)}")
    lineage.check_arms(study, (BASELINE, args.arm))
    folder, both, names = study / "review", (arms[BASELINE], arms[args.arm]), (BASELINE, args.arm)
    form, key = folder / f"{args.arm}_sheet.csv", folder / f"{args.arm}_key.json"
    if form.is_file() and key.is_file():
        pairs = human_review.pairs_of_form(form, key, *both, names)
    else:
        pairs = human_review.draw_pairs(*both, names, args.pairs, args.seed, args.repeats)
        if not pairs:
            raise UserError(f"{study}: {args.arm} and {BASELINE} gave the same answers, so there is nothing to prefer")
        human_review.write_form(pairs, form, key)
    again = sum(pair["repeat_of"] is not None for pair in pairs)
    print(f"{len(pairs)} blinded pairs, {again} of them shown again: {form}")

    filled = rated_forms.with_sheets(folder, args.arm, args.sheets)
    raters = {name: human_review.read_form(path, key) for name, path in filled.items()}
    roles = {name: human_review.role_of(path) for name, path in filled.items()}
    rated_forms.keep(folder, args.arm, filled)
    result: Json = {"arm": args.arm, "raters": {}, "agreement": {}, "alpha": None, "judge": None}
    result["answers"] = answers = {name: sha256_file(study / name / "generations.jsonl") for name in names}
    for name, rated in raters.items():
        if not rated:
            raise UserError(f"{name}: nothing is rated; write 1, 2 or tie into the column 'preferred'")
        found = prefer(human_review.once(rated), args)
        marked = [row["unsafe"] for row in human_review.once(rated)]
        unsafe = rater_agreement.unsafe(marked, names, args.confidence)
        who = f"{name} ({roles[name] or 'role not given'})"
        result["raters"][name] = {
            **found,
            "role": roles[name],
            "unsafe": unsafe,
            "biases": report_biases(who, rated, pairs, args),
        }
        print(f"{who}: {summary(found, args.arm)}")
        counted = " and ".join(f"{count} of {arm}" for arm, count in unsafe["marked"].items())
        print(f"{who}: marked unsafe, of {len(marked)} answers each: {counted}")
    if args.preferences:
        result["preferences"] = write_preferences(args, raters, pairs, both[0])
    if len(raters) > 1:
        result["alpha"] = agreement_of_all(raters, args)
    extra: list[Pair] = []
    if args.endpoint:
        known = {pair["id"] for pair in pairs}
        others = [[row for row in rows if row["id"] not in known] for rows in both]
        drawn = human_review.draw_pairs(others[0], others[1], names, args.judge_pairs, args.seed)
        extra = [{**pair, "pair": len(pairs) + pair["pair"]} for pair in drawn]
    every = [*pairs, *extra]
    verdicts = judge_pairs(judge, every, folder / f"{args.arm}_judge.json") if args.endpoint else []
    sources: dict[str, Sequence[Mapping[str, object]]] = {**raters} | ({"judge": verdicts} if verdicts else {})
    for first, second in combinations(sources, 2):
        choices = human_review.rated_by_both(sources[first], sources[second])
        agreed = rater_agreement.agreement(choices[0], choices[1], args.resamples, args.confidence, args.seed)
        result["agreement"][f"{first} and {second}"] = agreed
        shown = "none" if agreed["kappa"] is None else "{kappa:.2f} [{low:.2f}, {high:.2f}]".format(**agreed)
        print(f"agreement of {first} and {second}: Cohen's kappa {shown}, n = {agreed['n']}")
    if verdicts:
        result["judge"] = report_judge(verdicts, raters, every, args)
    elif kept := judged_before(folder / f"{args.arm}_review.json", answers):
        result["judge"] = kept
        print(f"judge {kept['model']}: as it was; give --endpoint to compare it with the ratings of today")
    write_json(folder / f"{args.arm}_review.json", result)


def judged_before(path: Path, answers: Mapping[str, str]) -> Json:
    """What a judge said of the same answers in an earlier run, which one without a judge does not throw away."""
    before: Json = read_json(path) if path.is_file() else {}
    return (before.get("judge") or {}) if before.get("answers") == answers else {}


def write_preferences(
    args: ReviewArguments, raters: "Mapping[str, Sequence[Rating]]", pairs: "Sequence[Pair]", rows: Sequence[Generation]
) -> Json:
    """Write the choices of people as preference data. Raises UserError where nobody has preferred anything."""
    from medsft.evaluation.review import preference_pairs

    chat = Path(args.study_dir) / "chat" / "votes.jsonl"
    asked = {row["id"]: row["messages"] for row in rows}
    found = [*preference_pairs.of_forms(raters, pairs, asked), *preference_pairs.of_votes(chat)]
    if not found:
        raise UserError(f"preferences: no form of {args.arm} is filled in, and {chat} has no vote with its texts")
    path = Path(args.preferences)
    write_jsonl(path, found)
    held_out = sum(row["source"] == "review" for row in found)
    print(f"{len(found)} preference pairs: {path}")
    print(f"{held_out} of them answer test rows of {args.study_dir}: a model trained on them cannot be scored there")
    return preference_pairs.summary(found, path)


def report_judge(
    verdicts: Sequence[Json], raters: "Mapping[str, Sequence[Rating]]", pairs: "Sequence[Pair]", args: ReviewArguments
) -> Json:
    """The judge's preferences, its faults, and its preference corrected by the people's, printed and returned."""
    from medsft.evaluation.review import human_review, llm_judge
    from medsft.evaluation.review.judge_correction import corrected_preference

    who = f"judge {args.model}"
    if not raters:
        print("no physician has rated these pairs: whether this judge can be trusted is not known")
    judged = [row for row in verdicts if row["choice"] != llm_judge.ABSTAINED]
    found: Json = {"model": args.model, "rubric": args.rubric, "abstained": len(verdicts) - len(judged)}
    print(f"{who}: no verdict on {len(verdicts) - len(judged)} of {len(verdicts)} pairs")
    if judged:
        decided = sum(row["decided"] for row in judged)
        preferred = prefer(human_review.once(judged), args)
        found |= preferred
        found["consistent"] = sum(row["consistent"] for row in judged) / len(judged)
        found["first_shown"] = sum(row["first_shown"] for row in judged) / decided if decided else None
        found["biases"] = report_biases(who, judged, pairs, args)
        print(f"{who}: {summary(preferred, args.arm)}")
        print(f"{who}: {found['consistent']:.0%} of pairs judged alike in both orders")
        bias = "none" if not decided else f"{found['first_shown']:.0%}"
        print(f"{who}: the answer shown first won {bias} of {decided} decisions (50 % without a bias)")
    found["corrected"] = corrected = corrected_preference(
        human_review.once(verdicts), raters, args.arm, args.confidence
    )
    if corrected:
        print(
            f"net preference for {args.arm} by the physicians' {corrected['labelled']} pairs and the judge's "
            f"{corrected['unlabelled']} further ones: {corrected['mean']:+.2f} {interval(corrected, '+')}"
        )
    return found


def report_biases(
    who: str, rated: Sequence[Mapping[str, Any]], pairs: "Sequence[Pair]", args: ReviewArguments
) -> "Biases":
    """Position and length bias and test-retest of one rater, printed and returned."""
    from medsft.evaluation.review.biases import biases
    from medsft.evaluation.statistics.intervals import Resampling

    found = biases(rated, pairs, Resampling(args.resamples, args.confidence, args.seed))
    for name, what in (("answer_1", "the first of the form"), ("longer", "the longer answer")):
        share = found[name]  # type: ignore[literal-required]
        if share:
            print(f"{who}: preferred {what} in {number(share['mean'])} {interval(share)} of decided pairs")
    again = found["retest"]
    if again["n"]:
        print(f"{who}: chose alike on {again['share']:.0%} of {again['n']} pairs that were shown again")
    return found


def agreement_of_all(raters: "Mapping[str, Sequence[Rating]]", args: ReviewArguments) -> "Interval | None":
    """Krippendorff's alpha of all physicians, worse - tie - better as an order; printed and returned."""
    from medsft.evaluation.review.judge_correction import alpha_of_raters

    found = alpha_of_raters(raters, (BASELINE, args.arm), args.resamples, args.confidence, args.seed)
    shown = "none" if found is None else f"{found['mean']:.2f} {interval(found)}"
    print(f"agreement of the {len(raters)} raters: Krippendorff's alpha (ordinal) {shown}")
    return found


def validate_judge(args: ReviewArguments, judge: "Judge", folder: Path) -> None:
    """Measure the judge on statements that physicians labelled, print what it is worth, and write it.

    Without an endpoint the offline reading is measured, by which score.py reads statements.
    """
    from medsft.evaluation.completeness import calibration, validation
    from medsft.evaluation.review import claim_judge
    from medsft.evaluation.statistics.intervals import Resampling

    rows = claim_judge.read(Path(args.labels))
    resampling = Resampling(args.resamples, args.confidence, args.seed)
    if not args.endpoint:
        accuracy, how = calibration.measure_offline(rows, resampling)
        write_json(folder / "offline_labels.json", {"labels": args.labels, "measured": how, **accuracy})
        print(f"offline reading, {how}")
        print("\n".join(validation.sentences("offline reading", accuracy)))
        return
    verdicts = claim_judge.ask_all(judge, rows, folder / "judge_labels_verdicts.json")
    found = claim_judge.validate(rows, verdicts, resampling)
    accuracy = validation.measure(rows, verdicts, resampling, contradictions=True)
    write_json(folder / "judge_labels.json", {"model": args.model, "labels": args.labels, **found, "reading": accuracy})
    for line in claim_judge.sentences(found):
        print(f"judge {args.model}: {line}")
    print("\n".join(validation.sentences(f"judge {args.model}", accuracy)))


def prefer(rated: Sequence[Mapping[str, Any]], args: ReviewArguments) -> "Preference":
    from medsft.evaluation.review.rater_agreement import preference

    choices, groups = [str(row["choice"]) for row in rated], [row["group"] for row in rated]
    return preference(choices, groups, args.arm, args.confidence)


def summary(found: "Preference", arm: str) -> str:
    return (
        f"{arm} better in {found['wins']}, equal in {found['ties']}, worse in {found['losses']} of {found['n']}; net "
        f"{found['preference']:+.2f} {interval(found, '+')}, p = {found['p']:.4f}"
    )


def judge_pairs(judge: "Judge", pairs: "Sequence[Pair]", path: Path) -> list[Json]:
    """The judge's choice on every pair: `pair`, `id`, `group`, `choice` and the keys of llm_judge.Judgement.

    Saved pair by pair, so that the same command continues after an interruption.
    """
    from tqdm import tqdm

    from medsft.evaluation.review import llm_judge

    digest = fingerprint(judge, llm_judge.QUESTION, llm_judge.ABSTAINED, llm_judge.LONGEST_REPLY, pairs)
    kept = read_json(path) if path.is_file() else {}
    rows: dict[str, Json] = kept["rows"] if kept.get("fingerprint") == digest else {}
    for pair in tqdm(pairs, desc="judging", unit="pair"):
        if str(pair["pair"]) in rows:
            continue
        verdict = llm_judge.compare(judge, pair["patient"], pair["answer_1"], pair["answer_2"])
        choice = pair["key"].get(verdict["side"], verdict["side"])
        asked: Json = {name: pair[name] for name in ("pair", "id", "group", "repeat_of")}  # type: ignore[literal-required]
        rows[str(pair["pair"])] = {**asked, "choice": choice, **verdict}
        write_json(path, {"fingerprint": digest, "rows": rows})
    return [rows[str(pair["pair"])] for pair in pairs]


if __name__ == "__main__":
    run(main, __doc__, ReviewArguments)
