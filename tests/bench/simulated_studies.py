"""Do the intervals cover, and do the tests keep their level? Thousands of simulated studies with known truth.

    make bench BENCH=statistics          # 2,000 studies a cell, some minutes on one core; SHORT=1: 200

Scores of a study come from a Gaussian copula with a correlation of 0.4 within groups, so that rows of one group are
alike. Groups have three rows each, or a lognormal number (sigma 0.8; the largest of 44 holds about a tenth of all).
The percentile bootstrap, which this project used before, stands beside.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv, ndtr

from medsft.evaluation.statistics import intervals, paired_tests, studentised, training_seeds

Array = NDArray[np.float64]
GROUPS = (10, 20, 44)
LAYOUTS = 40  # of group sizes; the studies of a cell are spread over them
RESAMPLES, LEVEL, ALIKE = 999, 0.95, 0.4
SHARES = np.linspace(0, 1, 20_001)[1:-1]
SEEDS, SPREADS = (2, 3, 5), (0.0, 1.0, 3.0, 10.0)


def quantiles(a: float, b: float, zeros: float = 0.0) -> Array:
    """Quantiles at SHARES of a beta distribution with a share of zeros."""
    return np.where(zeros > SHARES, 0.0, betaincinv(a, b, np.clip((SHARES - zeros) / (1 - zeros), 0, 1)))


SKEWED, ZEROS = quantiles(4, 12), quantiles(1, 12, 0.45)  # as ROUGE-1 and as ROUGE-2, with 45 % zeros
EXPONENTIAL = -np.log(1 - SHARES)
METRICS: dict[str, tuple[Callable[[Array], Array], float]] = {  # the values of uniform draws, and their true mean
    "skewed (ROUGE-1)": (lambda u: np.interp(u, SHARES, SKEWED), float(SKEWED.mean())),
    "45 % zeros (ROUGE-2)": (lambda u: np.interp(u, SHARES, ZEROS), float(ZEROS.mean())),
    "exponential difference": (lambda u: np.interp(u, SHARES, EXPONENTIAL) - EXPONENTIAL.mean(), 0.0),
    "rate 0.05": (lambda u: (u > 0.95).astype(float), 0.05),
    "rate 0.2": (lambda u: (u > 0.8).astype(float), 0.2),
    "rate 0.5": (lambda u: (u > 0.5).astype(float), 0.5),
}
PAIRED: dict[str, tuple[float, float]] = {  # shares of the two arms
    "rates 0.05 and 0.05": (0.05, 0.05),
    "rates 0.2 and 0.2": (0.2, 0.2),
    "rates 0.1 and 0.3": (0.1, 0.3),
}


def measure(studies: int) -> dict[str, Any]:
    """Coverage of every cell and of the seeds, as rows; `agree` is the share of studies where interval and p agree."""
    rows = [
        {"groups": groups, "sizes": kind, "metric": metric, **cell}
        for groups in GROUPS
        for kind in ("equal", "lognormal")
        for metric, cell in [*means(groups, kind, studies), *paired(groups, kind, studies)]
    ]
    return {"studies": studies, "resamples": RESAMPLES, "coverage": rows, "seeds": [*seeds(studies)]}


def means(groups: int, kind: str, studies: int) -> Iterator[tuple[str, dict[str, float | None]]]:
    """Coverage of the mean of each metric, and the level of the test of its true mean."""
    generator = np.random.default_rng([groups, len(kind)])
    for metric, (values, true) in METRICS.items():
        covered, before, rejected, agreed = [], [], [], []
        for layout in range(LAYOUTS):
            names = layout_of(groups, kind, generator)
            scores = values(uniform(names, studies // LAYOUTS, generator))
            columns = {str(number): column for number, column in enumerate(scores.T.tolist())}
            found = intervals.find(columns, names.tolist(), RESAMPLES, LEVEL, layout).values()
            covered += [row.low is not None and row.low <= true <= row.high for row in found]
            before += percentile(columns, names, true, layout)
            centred = {name: [value - true for value in column] for name, column in columns.items()}
            tests = intervals.find(centred, names.tolist(), RESAMPLES, LEVEL, layout, differences=True).values()
            rejected += [row.p < 1 - LEVEL for row in tests]
            agreed += [row.low is None or (row.p < 1 - LEVEL) == (not row.low <= 0 <= row.high) for row in tests]
        level = None if metric.startswith("rate") else float(np.mean(rejected))
        yield metric, shown(covered, before, level, agreed)


def paired(groups: int, kind: str, studies: int) -> Iterator[tuple[str, dict[str, float | None]]]:
    """Coverage of the difference of two paired shares that agree more often than chance."""
    generator = np.random.default_rng([groups, len(kind), 1])
    for metric, (first, second) in PAIRED.items():
        covered, before, rejected, agreed = [], [], [], []
        for layout in range(LAYOUTS):
            names, count = layout_of(groups, kind, generator), studies // LAYOUTS
            common = uniform(names, count, generator, normal=True)
            own = [uniform(names, count, generator, normal=True) for _ in range(2)]
            one, two = (ndtr(0.7 * common + np.sqrt(0.51) * each) for each in own)
            columns = [
                {str(number): column for number, column in enumerate((u > 1 - share).astype(float).T.tolist())}
                for u, share in ((one, first), (two, second))
            ]
            found = paired_tests.paired_comparisons(*columns, names.tolist(), 40, LEVEL, layout).values()
            true = second - first
            covered += [row["low"] is not None and row["low"] <= true <= row["high"] for row in found]
            rejected += [row["p"] < 1 - LEVEL for row in found]
            agreed += [(row["p"] < 1 - LEVEL) == (not row["low"] <= 0 <= row["high"]) for row in found]
            gaps = {n: [b - a for a, b in zip(columns[0][n], columns[1][n], strict=True)] for n in columns[0]}
            before += percentile(gaps, names, true, layout)
        yield metric, shown(covered, before, float(np.mean(rejected)) if first == second else None, agreed)


def seeds(studies: int) -> Iterator[dict[str, float]]:
    """Coverage over training seeds, with the seeds' spread in standard errors of the groups; 44 skewed groups."""
    for number in SEEDS:
        for spread in SPREADS:
            generator, covered = np.random.default_rng([number, int(spread)]), 0
            for _ in range(studies):
                rows = generator.gamma(2, 1, (44, 1)) - 2 + 0.5 * generator.normal(size=(44, number))
                rows += spread * np.sqrt(2 / 44) * generator.normal(size=(1, number))
                found = training_seeds.mean_over_seeds(rows, np.ones(44), LEVEL)
                covered += found.low is not None and found.low <= 0 <= found.high
            yield {"seeds": number, "spread": spread, "coverage": covered / studies}


def layout_of(groups: int, kind: str, generator: np.random.Generator) -> NDArray[np.int64]:
    """The group of each row."""
    drawn = np.maximum(1, np.round(generator.lognormal(0.7, 0.8, groups))).astype(int)
    return np.repeat(np.arange(groups), 3 if kind == "equal" else drawn)


def uniform(names: NDArray[np.int64], studies: int, generator: np.random.Generator, normal: bool = False) -> Array:
    """Uniform (or standard normal) draws of shape (rows, studies), alike within groups."""
    of_group = generator.normal(size=(names.max() + 1, studies))[names]
    drawn: Array = np.sqrt(ALIKE) * of_group + np.sqrt(1 - ALIKE) * generator.normal(size=(len(names), studies))
    return drawn if normal else ndtr(drawn)


def percentile(columns: dict[str, list[float]], names: NDArray[np.int64], true: float, seed: int) -> list[bool]:
    """Whether percentile bootstrap intervals over groups cover."""
    sums, counts = intervals.group_totals(columns, names.tolist())
    drawn = [
        (weights @ sums) / (weights @ counts)
        for some in studentised.draw_groups(len(sums), RESAMPLES, seed)
        for weights in [studentised.multiplicities(some, len(sums))]
    ]
    low, high = np.quantile(np.concatenate(drawn), [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return [bool(value) for value in (low - 1e-12 <= true) & (true <= high + 1e-12)]


def shown(covered: list[bool], before: list[bool], level: float | None, agreed: list[bool]) -> dict[str, float | None]:
    return {
        "coverage": float(np.mean(covered)),
        "percentile": float(np.mean(before)),
        "level": level,
        "agree": float(np.mean(agreed)),
    }


def table(found: dict[str, Any]) -> list[str]:
    """The coverage of each cell and of the seeds, as lines of Markdown."""
    cells = {(row["metric"], row["groups"], row["sizes"]): row for row in found["coverage"]}
    heads = [f"{groups}, {kind}" for groups in GROUPS for kind in ("equal", "lognormal")]
    lines = [f"Coverage of 95 % intervals (percentile bootstrap), {found['studies']:,} studies a cell", ""]
    lines += [f"| metric | {' | '.join(heads)} |", "|---|" + "--:|" * len(heads)]
    for metric in dict.fromkeys(row["metric"] for row in found["coverage"]):
        row = [cells[metric, groups, kind] for groups in GROUPS for kind in ("equal", "lognormal")]
        shares = (f"{cell['coverage']:.3f} ({cell['percentile']:.3f})" for cell in row)
        lines.append(f"| {metric} | {' | '.join(shares)} |")
    lines += ["", "| training seeds | " + " | ".join(f"spread {spread:g}" for spread in SPREADS) + " |"]
    lines += ["|---|" + "--:|" * len(SPREADS)]
    for number in SEEDS:
        shares = (f"{row['coverage']:.3f}" for row in found["seeds"] if row["seeds"] == number)
        lines.append(f"| {number} | {' | '.join(shares)} |")
    return [*lines, ""]
