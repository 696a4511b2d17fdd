"""What the demo's scripts import and why: processor time of the modules by package, and who imports the largest part.

python tests/bench/imports.py                       # prints the table; some two minutes
python tests/bench/imports.py --paste docs/speed.md # writes it there
"""

import argparse
import atexit
import importlib.abc
import json
import runpy
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
RECIPES = ROOT / "recipes"
LEAST = 30  # milliseconds in any script, below which a package is not listed
BEGIN, END = "<!-- imports: python tests/bench/imports.py --paste docs/speed.md -->", "<!-- end of imports -->"
ONE_STEP = ["--max_steps", "1", "--eval_strategy", "no", "--save_strategy", "no", "--keep_model", "false"]
SHORT = ["--max_rows", "2", "--max_new_tokens", "4", "--likelihood_rows", "0", "--memorization_rows", "0"]
SCRIPTS = {  # in the order of a study; each does as little as it can after its start
    "prepare_data": ("data", []),
    "sft_lora": ("lora", ONE_STEP),
    "sft_full": ("full", ONE_STEP),
    "generate": ("generate", ["--arm", "baseline", *SHORT]),
    "score": ("score", ["--resamples", "100"]),
    "report": ("report", []),
}
Module = dict[str, Any]  # name, self (seconds), whole (seconds), by


class Watch(importlib.abc.MetaPathFinder):
    """Writes down the processor time of every module as it is run, without and with those that it imports first."""

    def __init__(self) -> None:
        self.modules: list[Module] = []
        self.running: list[Module] = []

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        others = (finder.find_spec(name, path, target) for finder in sys.meta_path if finder is not self)
        spec: Any = next((found for found in others if found is not None), None)
        if spec is not None and hasattr(spec.loader, "exec_module") and not isinstance(spec.loader, type):
            execute = spec.loader.exec_module
            spec.loader.exec_module = lambda module: self.run(name, execute, module)
        return spec

    def run(self, name: str, execute: Any, module: Any) -> None:
        by = self.running[-1]["name"] if self.running else ""
        now: Module = {"name": name, "by": by, "self": 0.0, "whole": 0.0, "began": time.process_time()}
        self.running.append(now)
        try:
            execute(module)
        finally:
            self.running.pop()
            now["whole"] = time.process_time() - now.pop("began")
            now["self"] += now["whole"]
            if self.running:
                self.running[-1]["self"] -= now["whole"]
            self.modules.append(now)


def watched(words: list[str]) -> list[Module]:
    """The modules that a script imports in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "modules.json"
        command = [sys.executable, __file__, "--watch", str(result), *words]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace")
        if done.returncode:
            raise SystemExit(f"{' '.join(words)} failed: {done.stderr[-1500:]}")
        modules: list[Module] = json.loads(result.read_text())
        return modules


def watch(result: Path, words: list[str]) -> None:
    """Run a script in this process under a Watch, and write its modules when the process ends."""
    sys.argv = words
    sys.path[0] = str(Path(words[0]).parent)
    sys.meta_path.insert(0, found := Watch())
    atexit.register(lambda: result.write_text(json.dumps(found.modules)))
    runpy.run_path(words[0], run_name="__main__")


def package(name: str) -> str:
    return name.split(".")[0]


def by_package(modules: list[Module]) -> Counter[str]:
    """Milliseconds of each package's own modules."""
    total: Counter[str] = Counter()
    for module in modules:
        total[package(module["name"])] += 1000 * module["self"]
    return total


def importer(name: str, modules: list[Module]) -> str:
    """The module of another package that imports the largest part of a package; '' where a function does."""
    parts = [m for m in modules if package(m["name"]) == name and m["by"] and package(m["by"]) != name]
    return ".".join(max(parts, key=lambda m: m["whole"])["by"].split(".")[:3]) if parts else ""


def table(found: dict[str, list[Module]]) -> list[str]:
    """One row a package: milliseconds in each script, and who imports it."""
    columns = {script: by_package(modules) for script, modules in found.items()}
    packages = {name for times in columns.values() for name, spent in times.items() if spent >= LEAST}
    lines = [f"| ms of processor | {' | '.join(columns)} | imported first by |", f"|---|{'--:|' * len(columns)}---|"]
    lines.append("| all modules | " + " | ".join(f"{sum(times.values()):,.0f}" for times in columns.values()) + " | |")
    for name in sorted(packages, key=lambda name: -max(times[name] for times in columns.values())):
        by = [importer(name, modules) for modules in found.values()]
        spent = (f"{times[name]:,.0f}" if times[name] >= 1 else "" for times in columns.values())
        lines.append(f"| {name} | {' | '.join(spent)} | {', '.join(dict.fromkeys(f'`{b}`' for b in by if b))} |")
    return lines


def main() -> None:
    if sys.argv[1:2] == ["--watch"]:
        watch(Path(sys.argv[2]), sys.argv[3:])
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--paste", help="a page with the marks between which the table stands")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as study:
        found = {}
        for script, (config, more) in SCRIPTS.items():
            recipe = str(RECIPES / "configs" / "demo" / f"{config}.yaml")
            words = [str(RECIPES / f"{script}.py"), "--config", recipe, "--study_dir", study, *more]
            found[script] = watched(words)
    lines = table(found)
    print("\n".join(lines))
    if args.paste:
        page = Path(args.paste)
        before, rest = page.read_text(encoding="utf-8").split(BEGIN)
        after = rest.split(END)[1]
        page.write_text("\n".join([before + BEGIN, "", *lines, "", END + after]), encoding="utf-8")


if __name__ == "__main__":
    main()
