"""What people said of the answers: preferences, unsafe marks, agreement and who rated, from review.py's files.

Ratings count for the answers they were given to. Those of answers that were made anew since are left out and named.
"""

from pathlib import Path

from medsft.files import read_json, sha256_file
from medsft.records import Json
from medsft.reporting.verdict import listed
from medsft.result_records import Results
from medsft.text import Table, interval, number

UNKNOWN = "role not given"


def read(study: Path, arms: list[str]) -> dict[str, Json]:
    """{arm: content of its review.json, with `stale`: the arms whose answers changed since}."""
    found: dict[str, Json] = {}
    for arm in arms:
        path = study / "review" / f"{arm}_review.json"
        if path.is_file():
            review: Json = read_json(path)
            stale = [
                name
                for name, known in review.get("answers", {}).items()
                if not (path := study / name / "generations.jsonl").is_file() or known != sha256_file(path)
            ]
            found[arm] = review | {"stale": stale}
    return found


def counted(results: Results) -> dict[str, Json]:
    """The reviews that people filled in and that are about the answers of this study."""
    return {arm: review for arm, review in results["ratings"].items() if review["raters"] and not review["stale"]}


def who(review: Json) -> str:
    """'2 raters (physician, nurse)'."""
    roles = [str(rater.get("role") or UNKNOWN) for rater in review["raters"].values()]
    return f"{len(roles)} rater{'s' if len(roles) > 1 else ''} ({', '.join(roles)})"


def preferred(results: Results) -> str:
    """Whom the raters preferred, in whole counts over all raters."""
    said = []
    for arm, review in counted(results).items():
        wins, losses, n = (sum(rater[key] for rater in review["raters"].values()) for key in ("wins", "losses", "n"))
        said.append(f"{who(review)} preferred {arm} in {wins} and the untrained model in {losses} of {n} ratings")
    return f"Blinded: {'; '.join(said)}." if said else ""


def harm_marked(results: Results) -> str:
    """How many answers people marked unsafe, by arm, over all raters."""
    said = []
    for review in counted(results).values():
        marks: dict[str, int] = {}
        n = 0
        for rater in review["raters"].values():
            n += rater["unsafe"]["n"]
            for name, marked in rater["unsafe"]["marked"].items():
                marks[name] = marks.get(name, 0) + marked
        said.append(f"{who(review)} marked unsafe, of {n}: {', '.join(f'{name} {m}' for name, m in marks.items())}")
        if not any(rater.get("role") for rater in review["raters"].values()):
            said[-1] += " (whether they are clinicians is not known)"
    return f"{'; '.join(said)}." if said else ""


def for_trust(results: Results) -> str:
    """Who has rated, or that nobody has; ratings of earlier answers are named."""
    reviews = counted(results)
    parts = [f"Rated blind against the untrained model: {arm} by {who(review)}." for arm, review in reviews.items()]
    stale = [arm for arm, review in results["ratings"].items() if review["raters"] and review["stale"]]
    if stale:
        parts.append(f"Ratings of {listed(stale)} are left out: they are of earlier answers (run review.py).")
    if not reviews:
        parts.append("No clinician has rated the answers: all measures are automatic.")
    return " ".join(parts)


def table(results: Results) -> Table:
    """Each rater's preference and unsafe marks, agreement below."""
    rows = []
    for arm, review in counted(results).items():
        for name, rater in review["raters"].items():
            unsafe = rater["unsafe"]
            marked = " and ".join(f"{m} of {who_}" for who_, m in unsafe["marked"].items())
            net = f"{number(rater['preference'], '+')} {interval(rater, '+')}"
            rows.append([arm, name, str(rater.get("role") or UNKNOWN), str(rater["n"])])
            rows[-1] += [str(rater["wins"]), str(rater["ties"]), str(rater["losses"]), net, marked]
    agreed = []
    for arm, review in counted(results).items():
        if alpha := review.get("alpha"):
            agreed.append(f"{arm}: Krippendorff's alpha {number(alpha['mean'])} {interval(alpha)}")
    note = "Two answers to one patient, sides drawn, no arm named. Net: wins minus losses over all pairs, ties 0. " + (
        f"Agreement of the raters, {'; '.join(agreed)}." if agreed else "One rater, so agreement is unknown."
    )
    heads = ["arm", "rater", "role", "pairs", "better", "equal", "worse", "net preference", "marked unsafe"]
    empty = "Nobody has rated the answers (review.py draws the form, chat.py --review_only true shows it)."
    return Table("What people said, blinded", note, heads, rows, "review/<arm>_review.json", empty)
