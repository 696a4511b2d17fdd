"""Which answer is better, the arm's or the baseline's? A blinded review form for physicians, and an LLM judge.

    python recipes/review.py --study_dir runs/demo --arm lora
    python recipes/chat.py --study_dir runs/demo --review_only true
    python recipes/review.py --study_dir runs/demo --arm lora --sheets doctor_a.csv doctor_b.csv
    python recipes/review.py --study_dir runs/demo --arm lora --sheets doctor_a.csv \
        --endpoint http://127.0.0.1:8000/v1 --model Qwen/Qwen3-8B

Writes the review form STUDY_DIR/review/ARM_sheet.csv (two answers a row, sides drawn, no arm named: write 1, 2 or tie)
and a key, which stays here. The form is filled in as a spreadsheet, or on the page of chat.py, whose ratings are found
without --sheets. Forms that are filled in give preferences with intervals and Cohen's kappa between raters. A judge
sees every pair in both orders; its agreement with the physicians is printed before its verdicts, and how often it gave
none or favoured the answer shown first. Forms are matched by id; one whose answers were made anew since is refused.
Everything goes to ARM_review.json.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

from medsft.arguments import ReviewArguments
from medsft.cli import run
from medsft.config import parse
from medsft.errors import UserError
from medsft.files import fingerprint, read_json, write_json
from medsft.inference import generations_file
from medsft.inference.generations_file import BASELINE
from medsft.records import Json
from medsft.text import interval

if TYPE_CHECKING:
    from medsft.evaluation.review.human_review import Pair
    from medsft.evaluation.review.llm_judge import Judge
    from medsft.evaluation.review.rater_agreement import Preference


def main() -> None:
    (args,) = parse([ReviewArguments])

    from medsft.evaluation.review import human_review, llm_judge, rater_agreement

    study, resampling = Path(args.study_dir), (args.resamples, args.confidence, args.seed)
    judge = llm_judge.Judge(args.endpoint, args.model, args.rubric)
    if args.endpoint:
        llm_judge.check(judge, args.allow_remote)
    arms = generations_file.read_arms(study)
    for name in (BASELINE, args.arm):
        if name not in arms:
            raise UserError(f"{study}: '{name}' has no generations.jsonl; answered are {', '.join(arms)}")
    folder, both = study / "review", (arms[BASELINE], arms[args.arm])
    form, key = folder / f"{args.arm}_sheet.csv", folder / f"{args.arm}_key.json"
    if form.is_file() and key.is_file():
        pairs = human_review.pairs_of_form(form, key, *both, (BASELINE, args.arm))
    else:
        pairs = human_review.draw_pairs(*both, (BASELINE, args.arm), args.pairs, args.seed)
        if not pairs:
            raise UserError(f"{study}: {args.arm} and {BASELINE} gave the same answers, so there is nothing to prefer")
        human_review.write_form(pairs, form, key)
    print(f"{len(pairs)} blinded pairs: {form}")

    raters = {name: human_review.read_form(path, key) for name, path in filled_forms(args, folder).items()}
    result: Json = {"arm": args.arm, "raters": {}, "agreement": {}, "judge": None}
    for name, rated in raters.items():
        if not rated:
            raise UserError(f"{name}: nothing is rated; write 1, 2 or tie into the column 'preferred'")
        found = prefer(rated, args.arm, args.confidence)
        unsafe = rater_agreement.unsafe([row["unsafe"] for row in rated], (BASELINE, args.arm), args.confidence)
        result["raters"][name] = {**found, "unsafe": unsafe}
        print(f"{name} (physician): {summary(found, args.arm)}")
        marked = " and ".join(f"{count} of {arm}" for arm, count in unsafe["marked"].items())
        print(f"{name} (physician): marked unsafe, of {len(rated)} answers each: {marked}")
    verdicts = judge_pairs(judge, pairs, folder / f"{args.arm}_judge.json") if args.endpoint else []
    sources: dict[str, Sequence[Mapping[str, object]]] = {**raters} | ({"judge": verdicts} if verdicts else {})
    for first, second in combinations(sources, 2):
        choices = human_review.rated_by_both(sources[first], sources[second])
        agreed = rater_agreement.agreement(choices[0], choices[1], *resampling)
        result["agreement"][f"{first} and {second}"] = agreed
        shown = "none" if agreed["kappa"] is None else "{kappa:.2f} [{low:.2f}, {high:.2f}]".format(**agreed)
        print(f"agreement of {first} and {second}: Cohen's kappa {shown}, n = {agreed['n']}")
    if verdicts:
        if not raters:
            print("no physician has rated these pairs: whether this judge can be trusted is not known")
        judged = [row for row in verdicts if row["choice"] != llm_judge.ABSTAINED]
        result["judge"] = {"model": args.model, "rubric": args.rubric, "abstained": len(verdicts) - len(judged)}
        print(f"judge {args.model}: no verdict on {len(verdicts) - len(judged)} of {len(verdicts)} pairs")
        if judged:
            decided = sum(row["decided"] for row in judged)
            result["judge"] |= prefer(judged, args.arm, args.confidence)
            result["judge"]["consistent"] = sum(row["consistent"] for row in judged) / len(judged)
            result["judge"]["first_shown"] = sum(row["first_shown"] for row in judged) / decided if decided else None
            print(f"judge {args.model}: {summary(result['judge'], args.arm)}")
            print(f"judge {args.model}: {result['judge']['consistent']:.0%} of pairs judged alike in both orders")
            bias = "none" if not decided else f"{result['judge']['first_shown']:.0%}"
            print(f"judge {args.model}: the answer shown first won {bias} of {decided} decisions (50 % without a bias)")
    write_json(folder / f"{args.arm}_review.json", result)


def filled_forms(args: ReviewArguments, folder: Path) -> dict[str, Path]:
    """The forms by rater: those of --sheets, else those that were filled in on the page."""
    from medsft.evaluation.review.human_review import rated_files

    named = {Path(name).stem: Path(name) for name in args.sheets}
    if len(named) < len(args.sheets):
        raise UserError(f"sheets {' '.join(args.sheets)}: two have one name; name each form after its rater")
    return named or rated_files(folder, args.arm)


def prefer(rated: Sequence[Mapping[str, object]], arm: str, confidence: float) -> "Preference":
    from medsft.evaluation.review.rater_agreement import preference

    return preference([str(row["choice"]) for row in rated], [row["group"] for row in rated], arm, confidence)


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

    digest = fingerprint(judge, llm_judge.QUESTION, llm_judge.ABSTAINED, pairs)
    kept = read_json(path) if path.is_file() else {}
    rows: dict[str, Json] = kept["rows"] if kept.get("fingerprint") == digest else {}
    for pair in tqdm(pairs, desc="judging", unit="pair"):
        if str(pair["pair"]) in rows:
            continue
        verdict = llm_judge.compare(judge, pair["patient"], pair["answer_1"], pair["answer_2"])
        choice = pair["key"].get(verdict["side"], verdict["side"])
        asked: Json = {"pair": pair["pair"], "id": pair["id"], "group": pair["group"]}
        rows[str(pair["pair"])] = {**asked, "choice": choice, **verdict}
        write_json(path, {"fingerprint": digest, "rows": rows})
    return [rows[str(pair["pair"])] for pair in pairs]


if __name__ == "__main__":
    run(main, __doc__, ReviewArguments)
