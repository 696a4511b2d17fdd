"""Paste the tables of finished studies into docs/first_study.md: python tests/study_page.py runs/covid runs/icliniq

Each table stands between '<!-- study NAME -->' and '<!-- end of NAME -->'. A method of several seeds is one row,
by the report's own test over seeds; a star marks what Holm's correction leaves.
"""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "recipes"))

from medsft.files import read_json  # noqa: E402
from medsft.reporting.plan.docs_plan_table import replace_between  # noqa: E402
from medsft.text import by_method, change, interval, label, least_to_most, number  # noqa: E402

PAGE = ROOT / "docs" / "first_study.md"
NAMES = {
    "baseline_prompted": "instructions",
    "baseline_fewshot": "instructions and two examples",
    "baseline_nf4": "stored in NF4",
    "lora": "LoRA",
    "qlora": "QLoRA",
    "full": "full, ZeRO-3 offload",
}


def table(results: Mapping[str, Any]) -> str:
    """The untrained model's means, and of every other system its difference from them, with 95 % intervals."""
    primary, arms, alpha = results["primary"], results["arms"], results["alpha"]
    heads = [*map(label, primary), "answers that loop", "general questions right"]
    lines = [f"| {' | '.join(['system', *heads])} |", "|---" * (len(heads) + 1) + "|"]
    means = [arms["baseline"]["metrics"][metric] for metric in primary]
    own = [f"{number(mean['mean'])} {interval(mean)}" for mean in means]
    behaviour = [loops(results), right(results)]
    lines.append(f"| untrained | {' | '.join([*own, *(column['baseline'] for column in behaviour)])} |")
    found = {(row["arm"], row["metric"]): row for row in results["comparisons"] if row["baseline"] == "baseline"}
    found |= {(row["method"], row["metric"]): row for row in results["seeds"]}
    for name in by_method(dict.fromkeys(arms)):
        if name != "baseline":
            rows = [found[name, metric] for metric in primary]
            cells = [change(row) + (" *" if row["p_holm"] < alpha else "") for row in rows]
            cells += [column.get(name, "") for column in behaviour]
            lines.append(f"| {NAMES.get(name, name)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def loops(results: Mapping[str, Any]) -> dict[str, str]:
    """Of each method the answers that loop, from the least to the most of its seeds."""
    counts = {name: round(arm["metrics"]["loop"]["mean"] * arm["n"]) for name, arm in results["arms"].items()}
    return ranges(counts, lambda name: f" of {results['arms'][name]['n']}")


def right(results: Mapping[str, Any]) -> dict[str, str]:
    """Of each method the right answers to the bundled forgetting suite, in the same way."""
    asked = results["forgetting"]["suite"]["arms"]
    counts = {name: arm["accuracy"]["overall"]["correct"] for name, arm in asked.items()}
    return ranges(counts, lambda name: f" of {asked[name]['accuracy']['overall']['n']}")


def ranges(counts: Mapping[str, int], of: Callable[[str], str]) -> dict[str, str]:
    return {name: least_to_most(values) + of(name) for name, values in by_method(counts).items()}


def main(studies: list[str]) -> None:
    for folder in map(Path, studies):
        results = read_json(folder / "report" / "results.json")
        replace_between(PAGE, f"<!-- study {folder.name} -->", f"<!-- end of {folder.name} -->", table(results))


if __name__ == "__main__":
    main(sys.argv[1:])
