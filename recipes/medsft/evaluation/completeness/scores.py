"""Completeness of every answer by its statements, and what was left out: the columns that score.py adds.

Completeness is K-QA's comprehensiveness, the share of must-have statements that the answer entails; `contradictions`
is its hallucination count, of all statements (Manes et al. 2024, arXiv:2401.14493). `rubric` is HealthBench's score:
points of the criteria that are met over the sum of the positive points, clipped to 0..1 (arXiv:2505.08775).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from medsft.data.reading.statements import Statement
from medsft.evaluation.completeness import offline, validation
from medsft.evaluation.completeness.coverage import Pair
from medsft.evaluation.completeness.matching import Statements, statements_of
from medsft.evaluation.metrics import bertscore
from medsft.evaluation.metrics.conversation import patient_text
from medsft.evaluation.review import claim_judge, llm_judge
from medsft.evaluation.review.llm_judge import ABSTAINED, Judge
from medsft.evaluation.statistics.intervals import Resampling
from medsft.files import read_json, write_jsonl
from medsft.models import embedded
from medsft.records import Answer, Json, Question

if TYPE_CHECKING:
    from medsft.arguments import ScoreArguments

OMISSIONS = "omissions.jsonl"
COMPLETENESS, CONTRADICTIONS, RUBRIC = "completeness", "contradictions", "rubric"
Columns = dict[str, list[float | None]]


class Instrument(NamedTuple):
    """What reads the statements: a judge, or MiniLM offline. `record` says how often it is wrong, for the results."""

    statements: Statements
    judge: Judge | None
    encoder: bertscore.Encoder | None
    record: Json

    @property
    def columns(self) -> list[str]:
        """The columns that it gives: contradictions by a judge only, a rubric where a statement has its own points."""
        plain = all(s["points"] == float(s["must_have"]) for many in self.statements.values() for s in many)
        return [COMPLETENESS, *([CONTRADICTIONS] if self.judge else []), *([] if plain else [RUBRIC])]


def judge_of(arguments: "ScoreArguments") -> Judge | None:
    """The judge that the options name. Raises UserError for an endpoint that is none."""
    if not arguments.judge_endpoint:
        return None
    judge = Judge(arguments.judge_endpoint, arguments.judge_model, "")
    llm_judge.check(judge, arguments.allow_remote)
    return judge


def instrument(arguments: "ScoreArguments", study: Path, rows: Sequence[Question]) -> Instrument | None:
    """What reads the statements of these test rows; None where no row has any.

    Measures a judge on the labelled statements, if there are some, and prints what the instrument is worth.
    """
    found, judge = statements_of(rows, arguments.statements), judge_of(arguments)
    if not found:
        return None
    print(f"statements for {len(found)} of {len(rows)} test rows")
    resampling = Resampling(arguments.resamples, arguments.confidence, arguments.seed)
    if judge is None:
        card = read_json(offline.FILE)["card"]
        print("\n".join(validation.sentences("offline reading", card["accuracy"])))
        reader = bertscore.load_encoder(embedded.MINILM, None)  # in float32, as it was calibrated
        return Instrument(found, None, reader, {"read_by": "offline reading", "accuracy": card["accuracy"]})
    record: Json = {"read_by": f"judge {judge.model}", "accuracy": None}
    if arguments.statement_labels:
        labelled = claim_judge.read(Path(arguments.statement_labels))
        verdicts = claim_judge.ask_all(judge, labelled, study / "review" / "judge_labels_verdicts.json")
        record["accuracy"] = validation.measure(labelled, verdicts, resampling, contradictions=True)
        print("\n".join(validation.sentences(record["read_by"], record["accuracy"])))
    else:
        print(f"{record['read_by']}: not measured on physicians' labels; give some with --statement_labels")
    return Instrument(found, judge, None, record)


def score(instrument: Instrument, rows: Sequence[Answer], folder: Path | None, name: str = "judge") -> Columns:
    """The columns of these answers; None for a row without statements.

    A judge's verdicts are kept in `folder` under `name`. Without a folder (naive baselines) a judge is not asked.
    """
    if folder is None and instrument.judge is not None:
        return {}
    per_row = read(instrument, rows, folder, name)
    ways = {COMPLETENESS: completeness, CONTRADICTIONS: contradictions, RUBRIC: rubric}
    return {column: [ways[column](given) for given in per_row] for column in instrument.columns}


def list_omissions(instrument: Instrument, rows: Sequence[Answer], folder: Path, name: str = "judge") -> None:
    """Write omissions.jsonl of these answers; a judge's verdicts are those that `score` has kept."""
    per_row = read(instrument, rows, folder, name)
    write_jsonl(folder / OMISSIONS, [omitted(row, given) for row, given in zip(rows, per_row, strict=True) if given])


def read(
    instrument: Instrument, rows: Sequence[Answer], folder: Path | None, name: str
) -> list[list[tuple[Statement, str]]]:
    """The statements of each row with their labels: Entailment, Neutral, of a judge Contradiction or an abstention."""
    units = [(at, statement) for at, row in enumerate(rows) for statement in instrument.statements.get(row["id"], [])]
    pairs = [
        Pair(patient_text(rows[at]["messages"]), rows[at]["prediction"], statement["text"]) for at, statement in units
    ]
    if instrument.judge is not None and folder is not None:
        asked = [{"question": pair.question, "answer": pair.answer, "claim": pair.statement} for pair in pairs]
        labels = claim_judge.ask_all(instrument.judge, asked, folder / f"statements_{name}.json")
    else:
        labels = offline.read(pairs, instrument.encoder) if instrument.encoder else [ABSTAINED] * len(pairs)
    per_row: list[list[tuple[Statement, str]]] = [[] for _ in rows]
    for (at, statement), label in zip(units, labels, strict=True):
        per_row[at].append((statement, label))
    return per_row


def completeness(given: Sequence[tuple[Statement, str]]) -> float | None:
    """Share of the must-have statements that are entailed, of those with a verdict."""
    known = [
        label == validation.ENTAILED for statement, label in given if statement["must_have"] and label != ABSTAINED
    ]
    return sum(known) / len(known) if known else None


def contradictions(given: Sequence[tuple[Statement, str]]) -> float | None:
    """How many statements are contradicted, of those with a verdict."""
    known = [label == validation.CONTRADICTED for _, label in given if label != ABSTAINED]
    return float(sum(known)) if known else None


def rubric(given: Sequence[tuple[Statement, str]]) -> float | None:
    """Points of the criteria that are met over the sum of the positive points, clipped to 0..1."""
    known = [(statement["points"], label == validation.ENTAILED) for statement, label in given if label != ABSTAINED]
    most = sum(points for points, _ in known if points > 0)
    return min(1.0, max(0.0, sum(points for points, met in known if met) / most)) if most else None


def omitted(row: Question, given: Sequence[tuple[Statement, str]]) -> Json:
    """A row of omissions.jsonl: the must-have statements that are not entailed, and those that are contradicted."""
    return {
        "id": row["id"],
        "group": row["group"],
        "must_have": sum(statement["must_have"] for statement, _ in given),
        "omitted": [s["text"] for s, label in given if s["must_have"] and label == validation.NEUTRAL],
        "contradicted": [s["text"] for s, label in given if label == validation.CONTRADICTED],
        "no_verdict": sum(label == ABSTAINED for _, label in given),
    }
