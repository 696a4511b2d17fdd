"""Which rooms of the library may import which, how large a module may be, and that each has a test."""

import ast
import importlib.metadata
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import pytest

from conftest import RECIPES, ROOT

LIBRARY = RECIPES / "medsft"
PATCHES = "patches"  # of libraries: they belong to the ground
# Besides itself and the ground (the modules of medsft itself, which know no room), a room may import:
MAY_IMPORT: dict[str, set[str]] = {
    "ground": set(),
    "study": set(),
    "hardware": set(),
    "models": set(),
    "tokenization": set(),
    "data": {"study", "tokenization", "models"},
    "distributed": {"hardware", "models"},
    "memory": {"distributed", "hardware", "models"},
    "training": {"memory", "distributed", "data", "tokenization", "hardware", "models"},
    "inference": {"study", "tokenization", "hardware", "models"},
    "evaluation": {"study", "inference", "data", "tokenization", "hardware", "models"},
    "source_study": {"evaluation", "memory", "models"},
    "reporting": {"study", "source_study", "evaluation", "memory", "hardware", "models"},
    "serving": {"study", "evaluation", "inference", "tokenization", "hardware", "models"},
}
MODULES = sorted(LIBRARY.rglob("*.py"))
MOST_LINES = 300
MOST_FILES = 14  # modules of one folder


def room_of(module: str) -> str:
    """'medsft.data.rules.cleaning' -> 'data'; 'medsft.files' -> 'ground'."""
    first = module.split(".")[1] if "." in module else ""
    return first if (LIBRARY / first).is_dir() and first not in ("", PATCHES) else "ground"


def name_of(path: Path) -> str:
    parts = path.relative_to(RECIPES).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(path: Path) -> Iterator[str]:
    """Modules of this library that a file imports anywhere, functions included."""
    return imports_of(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))


def imports_of(nodes: Iterable[ast.AST]) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "medsft")
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "medsft":
            for alias in node.names:
                below = f"{node.module}.{alias.name}"
                at = RECIPES / below.replace(".", "/")
                yield below if at.is_dir() or at.with_suffix(".py").is_file() else str(node.module)


def at_import(path: Path) -> Iterator[str]:
    """Those of them that are imported with the module itself: not inside a function, not for types only."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    yield from imports_of([node for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))])


def test_every_room_is_known_and_no_rule_is_left_over() -> None:
    rooms = {path.name for path in LIBRARY.iterdir() if path.is_dir() and path.name not in ("__pycache__", PATCHES)}
    assert rooms == set(MAY_IMPORT) - {"ground"}


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_imports_only_what_its_room_may(path: Path) -> None:
    room = room_of(name_of(path))
    allowed = {"ground", room} | MAY_IMPORT[room]
    assert {name for name in imported(path) if room_of(name) not in allowed} == set()


def test_no_module_is_imported_in_a_circle() -> None:
    graph = {name_of(path): {*at_import(path)} - {name_of(path)} for path in MODULES}
    done: set[str] = set()

    def visit(module: str, above: tuple[str, ...]) -> None:
        assert module not in above, " -> ".join((*above, module))
        if module in done:
            return
        for other in graph.get(module, ()):
            visit(other, (*above, module))
        done.add(module)

    for module in graph:
        visit(module, ())


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_has_one_job_and_says_which(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert ast.get_docstring(ast.parse(text))
    assert len(text.splitlines()) <= MOST_LINES


def test_no_folder_holds_more_modules_than_one_can_keep_in_mind() -> None:
    for folder in [LIBRARY, *(path for path in LIBRARY.rglob("*") if (path / "__init__.py").is_file())]:
        modules = [path.name for path in folder.glob("*.py") if path.name != "__init__.py"]
        assert len(modules) <= MOST_FILES, folder


@cache
def imported_by_tests() -> set[str]:
    found: set[str] = set()
    for path in (ROOT / "tests").rglob("*.py"):
        found |= {*imported(path)}
    return found


@pytest.mark.parametrize("path", [p for p in MODULES if p.name != "__init__.py"], ids=name_of)
def test_every_module_is_imported_by_a_test(path: Path) -> None:
    assert name_of(path) in imported_by_tests()


def test_no_script_takes_the_name_of_a_library() -> None:
    """A script's folder comes first among the paths of what it runs: an evaluate.py there is `import evaluate`."""
    scripts = [*RECIPES.glob("*.py"), *ROOT.glob("docker/cloud/*.py"), *ROOT.glob("tests/bench/*.py")]
    installed = importlib.metadata.packages_distributions()
    assert "evaluate" in installed and len(scripts) > 20
    assert [path.name for path in scripts if path.stem in installed or path.stem in sys.stdlib_module_names] == []
