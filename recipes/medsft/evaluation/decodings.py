"""An arm's answers by how they were decoded: greedily, sampled several times, greedily with a penalty on repetition.

Greedy answers of a small tuned model loop, and a verdict can follow the loops: on the same weights full fine-tuning was
.04 below its baseline in ROUGE-1 when greedy and above it in ROUGE-2 and ROUGE-L when sampled. So one way is declared
for the primary scores, and the others stand beside it. The score of a sampled answer to a question is the mean over its
draws: draws are nested in questions, and questions in groups.
"""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from medsft.errors import UserError
from medsft.evaluation.metrics import modules
from medsft.evaluation.statistics import paired_tests, training_seeds
from medsft.evaluation.statistics.intervals import Resampling
from medsft.files import read_jsonl, write_jsonl
from medsft.inference.generations_file import BASELINE, read_rows
from medsft.inference.part_files import sampled_files
from medsft.inference.sampling import PENALISED
from medsft.records import Difference, Generation, Json, Sampled, SampledInterval, ScoreRow
from medsft.study import answer_again
from medsft.study.names import TEST

GREEDY, SAMPLED = "greedy", "sampled"
WAYS = (GREEDY, SAMPLED, PENALISED)
PER_EXAMPLE = "decodings_per_example.jsonl"
Draws = list[Sequence[Generation]]
Columns = dict[str, list[float | None]]


def files(folder: Path) -> list[Path]:
    """All files of answers besides the greedy ones."""
    penalised = folder / f"{PENALISED}.jsonl"
    return [*sampled_files(folder).values(), *([penalised] if penalised.is_file() else [])]


def read_draws(folder: Path, greedy: Sequence[Generation]) -> dict[str, Draws]:
    """The draws of each way of decoding that has answers to all rows of `greedy`, in their order."""
    penalised = folder / f"{PENALISED}.jsonl"
    found: dict[str, Draws] = {GREEDY: [greedy]}
    for way, paths in (
        (SAMPLED, [*sampled_files(folder).values()]),
        (PENALISED, [penalised] if penalised.is_file() else []),
    ):
        draws = [{row["id"]: row for row in read_rows(path)} for path in paths]
        if draws and all(row["id"] in draw for draw in draws for row in greedy):
            found[way] = [[draw[row["id"]] for row in greedy] for draw in draws]
    return found


def check(way: str, arms: Mapping[str, Mapping[str, Draws]], study: Path, test: str = TEST) -> None:
    """Raise UserError where an arm has no answers decoded in the declared way, or another number of draws."""
    if way not in WAYS:
        raise UserError(f"decoding '{way}': use {', '.join(WAYS)}")
    for arm, found in arms.items():
        if way not in found:
            changed: dict[str, object] = {"do_sample": True} if way == SAMPLED else {"repetition_penalty": 1.1}
            raise UserError(
                f"decoding {way}: arm '{arm}' has no such answers to all of its rows; "
                f"run: {answer_again.command(study, arm, test, **changed)}"
            )
    counts = {arm: len(found[way]) for arm, found in arms.items()}
    if len(set(counts.values())) > 1:
        raise UserError(
            f"decoding {way}: arms have other numbers of draws ({counts}); answer all with the same --seeds"
        )


def mean_over_draws(draws: Sequence[Columns]) -> Columns:
    """One value a question: the mean over its draws, None where a draw has none."""
    if len(draws) == 1:
        return {name: [*values] for name, values in draws[0].items()}
    averaged: Columns = {}
    for name in draws[0]:
        by_question = zip(*(draw[name] for draw in draws), strict=True)
        averaged[name] = [
            None if None in values else sum(v for v in values if v is not None) / len(values) for values in by_question
        ]
    return averaged


def score_samples(files: Mapping[int, Path], ids: Collection[str | int], confidence: float) -> Sampled:
    """ROUGE, behaviour and safety of the sampled answers to the rows of `ids`: `seeds`, `n`, and `metrics` over seeds
    and dialogues."""
    by_seed: dict[str, Columns] = {}
    for seed, path in files.items():
        rows = [row for row in read_rows(path) if row["id"] in ids]
        predictions, references = [row["prediction"] for row in rows], [row["reference"] for row in rows]
        options = {"prompts": [row["messages"] for row in rows], "stopped": [row["stopped"] for row in rows]}
        columns = by_seed[str(seed)] = {}
        for name in ("rouge", "safety", "behaviour"):
            columns |= modules.score(name, predictions, references, **options)
    groups = [row["group"] for row in rows]
    found: dict[str, SampledInterval] = {}
    for name in next(iter(by_seed.values())):
        values = {seed: columns[name] for seed, columns in by_seed.items()}
        if over := training_seeds.over_seeds(values, groups, confidence):
            found[name] = over[0]
    return {"seeds": [*files], "n": len(rows), "metrics": found}


def write(folder: Path, rows: Mapping[str, Sequence[ScoreRow]]) -> None:
    """Write the scores of the ways that are not the declared one; none of them, no file."""
    if rows:
        write_jsonl(folder / PER_EXAMPLE, [{"decoding": way, **row} for way, some in rows.items() for row in some])
    else:
        (folder / PER_EXAMPLE).unlink(missing_ok=True)


def compare(study: Path, arms: Sequence[str], primary: Sequence[str], resampling: Resampling) -> list[Json]:
    """Each arm minus the baseline on the primary metrics in every other way: `decoding` and a Difference's keys."""
    scores: dict[str, dict[str, list[ScoreRow]]] = {}
    for arm in arms:
        path = study / arm / PER_EXAMPLE
        for row in read_jsonl(path) if path.is_file() else []:
            scores.setdefault(row.pop("decoding"), {}).setdefault(arm, []).append(row)
    found: list[Json] = []
    for way, by_arm in scores.items():
        compared: list[Difference] = paired_tests.compare_arms(by_arm, BASELINE, primary, *resampling)
        found += [{"decoding": way, **row} for row in compared]
    return found
