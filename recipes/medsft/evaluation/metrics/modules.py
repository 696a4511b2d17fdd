"""The `evaluate` modules under recipes/metrics: which there are, what they share, and how score.py calls them."""

import importlib.metadata
import multiprocessing
import os
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

if TYPE_CHECKING:
    import evaluate

FOLDER = Path(__file__).resolve().parents[3] / "metrics"
# Declared before any result is seen, unless score.yaml declares others: the only metrics that are tested.
PRIMARY = ("rouge1", "rouge2", "rougeL", "bertscore_f1")
# Options of any module besides the texts. evaluate.combine and score.py pass all options to every module, so a module
# accepts those of the others; without this list a misspelt option would be ignored.
PROCESSES_PAY = 1000  # answers from which further processes save more than the five seconds they take to start
OPTIONS = (
    "per_example",
    "stem",
    "encoder",
    "layer",
    "batch_size",
    "baseline",
    "corrected",
    "prompts",
    "stopped",
    "train",
)


def names() -> list[str]:
    """Every metric module: the folders of recipes/metrics that hold a file of their own name."""
    return sorted(path.stem for path in FOLDER.glob("*/*.py") if path.stem == path.parent.name)


@lru_cache(maxsize=32)
def load(name: str) -> Any:
    """The `evaluate` module recipes/metrics/NAME, keeping texts in memory (the default writes them to a cache)."""
    import evaluate

    return evaluate.load(str(FOLDER / name), keep_in_memory=True)


def rates() -> set[str]:
    """Metrics that are 0 or 1 for each answer: what the modules list as their `rates`."""
    return {rate for name in names() for rate in getattr(load(name), "rates", ())}


def score(
    name: str, predictions: Sequence[str], references: Sequence[str], **options: object
) -> dict[str, list[float | None]]:
    """One list of len(predictions) values per metric of the module, without values of the whole corpus (a hash)."""
    if not predictions:
        return {}
    result = load(name).compute(predictions=predictions, references=references, per_example=True, **options)
    return {key: values for key, values in result.items() if isinstance(values, list)}


def score_all(
    predictions: Sequence[str], references: Sequence[str], options: Mapping[str, object]
) -> dict[str, list[float | None]]:
    """`score` of every module: of many texts those without an encoder side by side, a process for each core.

    These are Python on one core each; the encoder's products use all of them.
    """
    columns: dict[str, list[float | None]] = {}
    aside = [name for name in names() if name != "bertscore"]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    plain = {name: value for name, value in options.items() if name != "encoder"}
    if len(predictions) < PROCESSES_PAY or cores == 1:
        for name in aside:
            columns |= score(name, predictions, references, **plain)
    else:
        with multiprocessing.get_context("spawn").Pool(min(cores, len(aside)), initializer=_quietly) as pool:
            asked = [(name, predictions, references, plain) for name in sorted(aside, key=lambda n: "rouge" not in n)]
            found = tqdm(
                pool.imap_unordered(_scored, asked, chunksize=1), "metrics", len(asked), unit="metric", delay=2
            )
            by_name = dict(found)
        for name in aside:
            columns |= by_name[name]
    return columns | score("bertscore", predictions, references, **options)


def _quietly() -> None:
    os.environ["TQDM_DISABLE"] = "1"  # one bar for all


def _scored(
    asked: tuple[str, Sequence[str], Sequence[str], dict[str, object]],
) -> tuple[str, dict[str, list[float | None]]]:
    name, predictions, references, options = asked
    return name, score(name, predictions, references, **options)


def info(
    description: str | None, citation: str, inputs: str, url: str = "", several: bool = False
) -> "evaluate.MetricInfo":
    """What a module's `_info` returns. `several`: an answer may have a list of references."""
    import datasets
    import evaluate

    text = datasets.Value("string")
    features = [datasets.Features({"predictions": text, "references": text})]
    if several:
        features.insert(0, datasets.Features({"predictions": text, "references": datasets.Sequence(text)}))
    return evaluate.MetricInfo(
        description=description,
        citation=citation,
        inputs_description=inputs,
        features=features if several else features[0],
        reference_urls=[url] if url else [],
    )


def mean_or_each(columns: Mapping[str, Sequence[float | None]], per_example: bool) -> dict[str, object]:
    """The columns themselves, or the mean of each over the answers that have a value (None where none has)."""
    if per_example:
        return {name: [*values] for name, values in columns.items()}
    known = {name: [value for value in values if value is not None] for name, values in columns.items()}
    return {name: sum(values) / len(values) if values else None for name, values in known.items()}


def refuse_unknown(others: Mapping[str, object]) -> None:
    """Raise TypeError for an option that no module has."""
    for name in others:
        if name not in OPTIONS:
            raise TypeError(f"no metric takes '{name}'; there are {', '.join(OPTIONS)}")


def versions() -> dict[str, str]:
    """Versions of the libraries that the scores depend on."""
    packages = ("rouge-score", "bert-score", "sacrebleu", "nltk", "evaluate", "transformers")
    return {name: importlib.metadata.version(name) for name in packages}
