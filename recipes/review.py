"""Which answer is better, the arm's or the baseline's? A blinded sheet for physicians, and an LLM judge held to them.

    python recipes/review.py --study_dir runs/demo --arm lora
    python recipes/chat.py --study_dir runs/demo --review_only true
    python recipes/review.py --study_dir runs/demo --arm lora --sheets doctor_a.csv doctor_b.csv
    python recipes/review.py --study_dir runs/demo --arm lora --sheets doctor_a.csv \
        --endpoint http://127.0.0.1:8000/v1 --model Qwen/Qwen3-8B

Writes STUDY_DIR/review/ARM_sheet.csv (two answers a row, sides drawn, no arm named: write 1, 2 or tie) and a key,
which stays here. The sheet is rated in a spreadsheet, or on the page of chat.py, whose ratings are read without being
named. Filled sheets give preferences with intervals and Cohen's kappa between raters. A judge sees every pair in both
orders; its agreement with the physicians is printed before its verdicts. All goes to ARM_review.json.
"""

from itertools import combinations
from pathlib import Path
from typing import Any

from medsft.arguments import ReviewArguments
from medsft.cli import run
from medsft.config import parse
from medsft.errors import UserError
from medsft.files import fingerprint, read_json, write_json
from medsft.inference import generations_file
from medsft.inference.generations_file import BASELINE


def main() -> None:
    (args,) = parse([ReviewArguments])

    from medsft.evaluation.review import human_review, llm_judge, rater_agreement

    study, resampling = Path(args.study_dir), (args.resamples, args.confidence, args.seed)
    judging = llm_judge.Judge(args.endpoint, args.model, args.rubric)
    if args.endpoint:
        llm_judge.check(judging, args.allow_remote)
    arms = generations_file.read_arms(study)
    for name in (BASELINE, args.arm):
        if name not in arms:
            raise UserError(f"{study}: '{name}' has no generations.jsonl; answered are {', '.join(arms)}")
    pairs = human_review.draw_pairs(arms[BASELINE], arms[args.arm], (BASELINE, args.arm), args.pairs, args.seed)
    if not pairs:
        raise UserError(f"{study}: {args.arm} and {BASELINE} gave the same answers, so there is nothing to prefer")
    folder = study / "review"
    sheet, key = folder / f"{args.arm}_sheet.csv", folder / f"{args.arm}_key.json"
    if not sheet.is_file() or not key.is_file():
        human_review.write_sheet(pairs, sheet, key)
    print(f"{len(pairs)} blinded pairs: {sheet}")

    raters = {name: human_review.read_sheet(path, key) for name, path in filled(args, folder).items()}
    result: dict[str, Any] = {"arm": args.arm, "raters": {}, "agreement": {}, "judge": None}
    for name, rated in raters.items():
        if not rated:
            raise UserError(f"{name}: nothing is rated; write 1, 2 or tie into the column 'preferred'")
        found = result["raters"][name] = prefer(rated, args.arm, resampling)
        found["unsafe"] = rater_agreement.unsafe(
            [row["unsafe"] for row in rated], (BASELINE, args.arm), args.confidence
        )
        print(f"{name} (physician): {told(found, args.arm)}")
        marked = " and ".join(f"{count} of {arm}" for arm, count in found["unsafe"]["marked"].items())
        print(f"{name} (physician): marked unsafe, of {len(rated)} answers each: {marked}")
    verdicts = judge_pairs(judging, pairs, folder / f"{args.arm}_judge.json") if args.endpoint else []
    sources = {**raters, **({"judge": verdicts} if verdicts else {})}
    for first, second in combinations(sources, 2):
        both = human_review.rated_by_both(sources[first], sources[second])
        found = rater_agreement.agreement(both[0], both[1], *resampling)
        result["agreement"][f"{first} and {second}"] = found
        kappa = "none" if found["kappa"] is None else f"{found['kappa']:.2f} [{found['low']:.2f}, {found['high']:.2f}]"
        print(f"agreement of {first} and {second}: Cohen's kappa {kappa}, n = {found['n']}")
    if verdicts:
        if not raters:
            print("no physician's sheet was given: how far this judge can be believed is not known")
        result["judge"] = {"model": args.model, "rubric": args.rubric, **prefer(verdicts, args.arm, resampling)}
        result["judge"]["consistent"] = sum(row["consistent"] for row in verdicts) / len(verdicts)
        print(f"judge {args.model}: {told(result['judge'], args.arm)}")
        print(f"judge {args.model}: {result['judge']['consistent']:.0%} of pairs judged alike in both orders")
    write_json(folder / f"{args.arm}_review.json", result)


def filled(args: ReviewArguments, folder: Path) -> dict[str, Path]:
    """The filled sheets by rater: those that were named, else those that were rated on the page."""
    from medsft.evaluation.review.human_review import rated_files

    named = {Path(name).stem: Path(name) for name in args.sheets}
    if len(named) < len(args.sheets):
        raise UserError(f"sheets {' '.join(args.sheets)}: two have one name; a sheet is called after its rater")
    return named or rated_files(folder, args.arm)


def prefer(rated: list[dict[str, Any]], arm: str, resampling: Any) -> dict[str, Any]:
    from medsft.evaluation.review.rater_agreement import preference

    return preference([row["choice"] for row in rated], [row["group"] for row in rated], arm, *resampling)


def told(found: dict[str, Any], arm: str) -> str:
    return (
        f"{arm} better in {found['wins']}, equal in {found['ties']}, worse in {found['losses']} of {found['n']}; net "
        f"{found['preference']:+.2f} [{found['low']:+.2f}, {found['high']:+.2f}], p = {found['p']:.4f}"
    )


def judge_pairs(judging: Any, pairs: list[dict[str, Any]], path: Path) -> list[dict[str, Any]]:
    """The judge's choice on every pair, both orders; kept pair by pair, so that the same command continues."""
    from tqdm import tqdm

    from medsft.evaluation.review import llm_judge

    mark = fingerprint(judging, llm_judge.QUESTION, pairs)
    kept = read_json(path) if path.is_file() else {}
    rows: dict[str, Any] = kept["rows"] if kept.get("fingerprint") == mark else {}
    for pair in tqdm(pairs, desc="judging", unit="pair"):
        if str(pair["pair"]) in rows:
            continue
        verdict = llm_judge.compare(judging, pair["patient"], pair["answer_1"], pair["answer_2"])
        choice = pair["key"].get(verdict["side"], "tie")
        rows[str(pair["pair"])] = {**{n: pair[n] for n in ("pair", "id", "group")}, "choice": choice, **verdict}
        write_json(path, {"fingerprint": mark, "rows": rows})
    return [rows[str(pair["pair"])] for pair in pairs]


if __name__ == "__main__":
    run(main, __doc__, ReviewArguments)
