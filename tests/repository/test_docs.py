"""Every command, option, path and link of the documentation exists; the cheap commands are run, the others parsed."""

import dataclasses
import importlib.util
import json
import re
import shlex
import shutil
import subprocess
import sys
import types
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

import demo_picture
import study_page
from conftest import RECIPES, ROOT, run_here, run_script
from documents import (
    DOCS,
    FENCE,
    PAGES,
    code,
    headings,
    lines,
    links,
    make_words,
    name_of,
    script_call,
    spans,
    tables,
    text_of,
)
from medsft import arguments
from medsft.config import parse, read_config
from medsft.memory.strategies import STRATEGIES

MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
CALLS = sorted({command for page in PAGES for command in code(page) if script_call(command)})
QUICK = ("plan_memory.py", "prepare_data.py")
ANOTHERS = {
    "docker",
    "kubectl",
    "sbatch",
    "srun",
    "sky",
    "apptainer",
    "podman",
    "hf",
    "pip",
    "git",
    "sha256sum",
    "export",
    "run",
    "ulimit",
    "lm_eval",
    "vllm",
    "llama-server",
}
OF_OTHERS = {
    "--down",
    "--secret",
    "--requeue",
    "--gpus",
    "--signal",
    "--network",
    "--read-only",
    "--array",
    "--served",
    "--tensor",
}  # docker's, Slurm's, SkyPilot's, vLLM's
PLACES = ("recipes/", "accelerate_configs/", "docker/", "tests/", "docs/")
INDEX = DOCS / "quickstart.ipynb"


# ---- make -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_make_target_and_variable_exists(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", MAKEFILE, flags=re.M))
    variables = set(re.findall(r"^([A-Z_]+) *[?:]?=", MAKEFILE, flags=re.M))
    words = [word for command in code(page) for word in make_words(command)]
    assert {word for word in words if "=" not in word} <= targets
    assert {word.split("=")[0] for word in words if "=" in word} <= variables


@pytest.mark.parametrize(
    "command",
    sorted({c for page in PAGES for line in lines(page) for c in line.split(" && ") if c.startswith("make ")}),
)
def test_make_command_would_run(command: str) -> None:
    done = subprocess.run([*shlex.split(command), "--dry-run"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# ---- scripts --------------------------------------------------------------------------------------------------------


def kinds_of(script: str) -> list[type]:
    """What a script's options are parsed into, as it says itself in its last line."""
    name = re.search(r"run\(main, __doc__, (\w+)\)", (RECIPES / script).read_text(encoding="utf-8"))
    assert name, script
    kinds = [getattr(arguments, name[1])]
    if kinds == [arguments.StudyArguments]:
        from trl import ModelConfig, SFTConfig

        kinds += [SFTConfig, ModelConfig]
    return kinds


@cache
def launch_options() -> set[str]:
    from accelerate.commands.launch import launch_command_parser

    return {option for action in launch_command_parser()._actions for option in action.option_strings}


@cache
def known_options() -> set[str]:
    """Every option of a script of ours, of `accelerate launch`, and of the programs in tests."""
    kinds = {kind for path in RECIPES.glob("*.py") for kind in kinds_of(path.name)}
    ours = {f"--{field.name}" for kind in kinds for field in dataclasses.fields(kind)} | {"--config", "--help"}
    programs = [*ROOT.glob("tests/*/__main__.py"), ROOT / "tests" / "gpu" / "wheels.py"]
    parsers = {option for path in programs for option in re.findall(r'"(--\w+)"', path.read_text(encoding="utf-8"))}
    cloud = " ".join(path.read_text(encoding="utf-8") for path in ROOT.glob("docker/cloud/*.py"))
    return ours | parsers | {*re.findall(r'"(--\w+)"', cloud)} | launch_options()


@pytest.mark.parametrize("command", CALLS)
def test_options_of_a_script_are_parsed(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    before, script, words = script_call(command) or ([], "", [])
    assert (RECIPES / script).is_file()
    kinds = kinds_of(script)
    if "launch" in before:
        given = {word for word in before[before.index("launch") + 1 :] if word.startswith("--")}
        assert given <= launch_options()
    for word in [*before, *words]:
        assert not word.startswith(PLACES) or (ROOT / word).exists(), word
    if "..." in words or "ARM" in words:  # a pattern to be filled in
        return
    config = read_config(words)
    if kinds == [arguments.PlanArguments] and {"arm", "strategy"} & set(config):  # a training recipe to plan
        at = words.index("--config")
        words = words[:at] + words[at + 2 :]
    if len(kinds) > 1:
        words += ["--use_cpu", "true"]  # a GPU's recipe is parsed without one
    parse(kinds, argv=words)


LAUNCHING = [*PAGES, *sorted(ROOT.glob("accelerate_configs/*")), *sorted(ROOT.glob("recipes/configs/*/full*.yaml"))]
LAUNCHING += sorted(path for path in ROOT.glob("docker/cloud/**/*") if path.is_file() and path.suffix != ".pyc")


@pytest.mark.parametrize("page", LAUNCHING, ids=name_of)
def test_a_launch_of_full_fine_tuning_is_that_of_its_recipes_strategy(page: Path) -> None:
    """Else the recipe would refuse it, on the cluster."""
    text = re.sub(r"\\+\n[#\s]*|,\s+", " ", text_of(page))
    for config, rest in re.findall(
        r"--config_file accelerate_configs/(\w+\.yaml)\S* [^\n]*?recipes/sft_full\.py([^\n]*)", text
    ):
        named = re.search(r"--config (recipes/configs/\w+/\w+\.yaml)", rest)
        recipe = ROOT / (named[1] if named else "recipes/configs/mistral_7b/full_8bit.yaml")
        wanted = STRATEGIES[yaml.safe_load(recipe.read_text(encoding="utf-8"))["strategy"]].config or "single_gpu.yaml"
        assert config.replace("_multi_node", "") == wanted, f"{config} with {recipe.name}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_option_that_a_text_names_exists(page: Path) -> None:
    for command in [*lines(page), *spans(page)]:
        if command.split()[0].split("=")[0] in ANOTHERS:
            continue
        named = set(re.findall(r"(?<![\w-])--[a-z]\w*", command))
        assert named <= known_options() | OF_OTHERS, command


@pytest.fixture(scope="module")
def my_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The reader's own files that commands name, with a few rows of the sample."""
    folder = tmp_path_factory.mktemp("mine")
    rows = [json.loads(line) for line in (RECIPES / "sample" / "dialogues.jsonl").read_text().splitlines()[:80]]
    rows = [row for row in rows if all(isinstance(row[key], str) for key in ("patient_message", "doctor_response"))]
    dialogues, faq = folder / "my_dialogues.jsonl", folder / "faq.csv"
    dialogues.write_text("".join(json.dumps(row) + "\n" for row in rows))
    pairs = [(json.dumps(row["patient_message"]), json.dumps(row["doctor_response"])) for row in rows]
    quoted = [",".join(text.replace('\\"', '""').replace("\\n", " ") for text in pair) for pair in pairs]
    faq.write_text("\n".join(["question,answer", *quoted]) + "\n")
    elsewhere = folder / "kqa.jsonl"
    other = {"patient_message": "Is lukewarm tea bad for a goldfish keeper?", "doctor_response": "No, drink it gladly."}
    elsewhere.write_text(json.dumps(other | {"must_have": ["Tea is harmless"], "nice_to_have": []}) + "\n")
    return {path.name: path for path in (dialogues, faq, elsewhere)}


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [c for page in PAGES for c in lines(page) if (call := script_call(c)) and call[1] in QUICK and "&&" not in c],
)
def test_quick_command_runs(command: str, my_files: dict[str, Path], tmp_path: Path) -> None:
    _, script, words = script_call(command) or ([], "", [])
    if {"--calibrate", "--presidio_model"} & set(words):
        pytest.skip("it needs a finished training, or a model that is not in this environment")
    options = [str(my_files.get(word, word)) for word in words]
    for name in ("--study_dir", "--output_dir"):
        if name in options:
            del options[options.index(name) : options.index(name) + 2]
    done = run_script(script, *options, "--study_dir", tmp_path / "study")
    assert done.returncode == 0, done.stderr


# ---- paths, links, pages --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_path_that_a_text_names_exists(page: Path) -> None:
    for span in spans(page):
        if (
            span.startswith(PLACES)
            and " " not in span
            and not re.search(r"[A-Z]{4}|[*<{]", span.removesuffix("_CARD.md"))
        ):
            assert (ROOT / span).exists(), span


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in links(page):
        if target.startswith(("https://", "mailto:")):
            continue
        file, _, anchor = target.partition("#")
        goal = (page.parent / file).resolve() if file else page
        assert goal.is_file(), target
        assert DOCS not in page.parents or DOCS in goal.parents, f"{target} is not on the site"
        assert not anchor or anchor in headings(goal), target


def test_every_page_has_a_title_and_a_place_on_the_site() -> None:
    def pages(nav: Any) -> list[str]:
        if isinstance(nav, str):
            return [nav]
        return [page for item in (nav.values() if isinstance(nav, dict) else nav) for page in pages(item)]

    config = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    assert sorted(pages(config["nav"])) == sorted(str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md"))
    assert config["strict"] and config["theme"]["font"] is False
    assert {"offline", "privacy"}.isdisjoint(map(str, config["plugins"]))  # both load something from elsewhere
    for page in PAGES:
        assert re.match(r"# \S.*\n", text_of(page)), page


def test_the_picture_is_small_and_drawn_from_the_numbers_of_the_page() -> None:
    content = demo_picture.PICTURE.read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n" and len(content) <= 150_000
    results = demo_picture.read_table(demo_picture.PAGE.read_text(encoding="utf-8"))
    assert [len(results[part]) for part in ("arms", "floors")] == [4, 4]
    assert demo_picture.drawn_from(results).encode() in content, "run: python tests/demo_picture.py"


def test_a_table_of_the_first_study_says_a_method_once_and_stars_what_is_shown() -> None:
    def arm(loop: float) -> dict[str, Any]:
        score = {"mean": 1.25, "low": 1.0, "high": 1.5}
        return {"n": 4, "metrics": {"bits_per_byte": score, "loop": {"mean": loop}}}

    change = {"metric": "bits_per_byte", "difference": -0.2, "low": -0.3, "high": -0.1}
    right = {name: {"accuracy": {"overall": {"n": 9, "correct": 5}}} for name in ("baseline", "lora")}
    results = {
        "primary": ["bits_per_byte"],
        "alpha": 0.05,
        "arms": {"baseline": arm(0.0), "baseline_nf4": arm(1.0), "lora": arm(0.25), "lora_seed1": arm(0.5)},
        "comparisons": [
            {**change, "arm": "baseline_nf4", "baseline": "baseline", "low": None, "high": None, "p_holm": 0.05}
        ],
        "seeds": [{**change, "method": "lora", "p_holm": 0.04}],
        "forgetting": {"suite": {"arms": right}},
    }
    assert study_page.table(results).splitlines()[2:] == [
        "| untrained | 1.250 [1.000, 1.500] | 0 of 4 | 5 of 9 |",
        "| stored in NF4 | \N{MINUS SIGN}0.200 [no interval] | 4 of 4 |  |",
        "| LoRA | \N{MINUS SIGN}0.200 [\N{MINUS SIGN}0.300, \N{MINUS SIGN}0.100] * | 1 to 2 of 4 | 5 of 9 |",
    ]


# ---- pages that repeat what the code says ---------------------------------------------------------------------------


def table_with(page: str, first_head: str) -> list[list[str]]:
    """The rows below the head of the page's table whose first column is called so."""
    return next(table[1:] for table in tables(DOCS / page) if table[0][0] == first_head)


def test_the_table_of_strategies_is_that_of_the_code() -> None:
    rows = {row[0].strip("`"): row for row in table_with("methods.md", "strategy")}
    assert sorted(rows) == sorted(STRATEGIES)
    for name, (_, recipe, configs, *_) in rows.items():
        path = RECIPES / "configs" / "mistral_7b" / recipe.strip("`")
        assert yaml.safe_load(path.read_text(encoding="utf-8"))["strategy"] == name
        named = re.findall(r"`(\S+?)`", configs)
        assert named[0] == (STRATEGIES[name].config or "single_gpu.yaml")
        assert all((ROOT / "accelerate_configs" / config).is_file() for config in named)


def test_the_table_of_rooms_is_the_rule_that_is_tested() -> None:
    spec = importlib.util.spec_from_file_location("rules", ROOT / "tests" / "repository" / "test_architecture.py")
    assert spec and spec.loader
    rules = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(rules)
    said = {row[0].strip("`"): set(row[2].split(", ")) - {"nothing"} for row in table_with("architecture.md", "room")}
    assert said.pop("top of `medsft") == set()
    assert said == {room: may for room, may in rules.MAY_IMPORT.items() if room != "ground"}
    drawing = next(body for _, body in FENCE.findall(text_of(DOCS / "architecture.md")) if "scripts in" in body)
    heights = {room: -at for at, line in enumerate(drawing.splitlines()) for room in line.split() if room in said}
    assert set(heights) == set(said)
    assert all(heights[room] > heights[other] for room, may in said.items() for other in may)


def test_the_glossary_is_in_order_and_says_each_thing_once() -> None:
    terms = [row[0].strip("`").lower() for row in table_with("glossary.md", "term")]
    assert terms == sorted(set(terms))
    assert {"arm", "strategy", "method", "naive baseline", "manifest", "group", "guardrail", "ceiling"} <= set(terms)


def test_names_that_a_change_starts_from_are_in_their_files() -> None:
    """`SHAPES` in `recipes/...`, or a file and then the names of its paragraph in capitals."""
    for paragraph in re.split(r"\n(?=\d\. |\n)", text_of(DOCS / "adding_things.md")):
        file = next((s for s in re.findall(r"`([^`]+\.py)`", paragraph) if (ROOT / s).is_file()), None)
        for name in re.findall(r"`([A-Z_]{4,})`", paragraph):
            files = [ROOT / s for s in re.findall(r"`([^`]+\.py)`", paragraph) if (ROOT / s).is_file()]
            assert file and any(name in path.read_text(encoding="utf-8") for path in files), name


# ---- the notebook ---------------------------------------------------------------------------------------------------


def notebook() -> list[dict[str, Any]]:
    return json.loads(INDEX.read_text(encoding="utf-8"))["cells"]


def run_cell(source: str, names: dict[str, Any]) -> None:
    """What Jupyter does with a cell: lines with ! are commands, with the values of names in {braces}."""
    python: list[str] = []
    for line in source.splitlines():
        if line.startswith("!"):
            exec("\n".join(python), names)
            python = []
            command = re.sub(r"\{(\w+)\}", lambda match: str(names[match[1]]), line[1:])
            interpreter, script, *options = shlex.split(command)
            assert interpreter == names["PYTHON"]
            done = run_here(script.removeprefix("recipes/"), *options)
            assert done.returncode == 0, done.stderr
        else:
            python.append(line)
    exec("\n".join(python), names)


def test_the_notebook_holds_no_outputs_and_only_make_targets_and_scripts_that_exist() -> None:
    for cell in notebook():
        if cell["cell_type"] != "code":
            continue
        assert cell["outputs"] == [] and cell["execution_count"] is None
        source = "".join(cell["source"])
        for path in re.findall(r"recipes/[\w/]+\.\w+", source):
            assert (ROOT / path).is_file(), path
        for line in source.splitlines():
            assert set(make_words(line.removeprefix("!"))) <= set(re.findall(r"^([a-z-]+):", MAKEFILE, flags=re.M))


@pytest.mark.slow
def test_the_notebook_runs(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[Any] = []
    display = types.ModuleType("IPython.display")
    monkeypatch.setattr(display, "display", shown.append, raising=False)
    monkeypatch.setattr(display, "Markdown", lambda text: text, raising=False)
    monkeypatch.setattr(display, "Image", lambda filename: Path(filename).read_bytes(), raising=False)
    parent = types.ModuleType("IPython")
    monkeypatch.setattr(parent, "version_info", (9, 0, 0), raising=False)  # matplotlib looks
    monkeypatch.setitem(sys.modules, "IPython", parent)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    monkeypatch.chdir(ROOT)
    toy = {"PYTHON": sys.executable, "MODEL": tiny_model, "STUDY": tmp_path / "toy", "STEPS": 1, "ROWS": 6, "TOKENS": 4}
    names: dict[str, Any] = {}
    for cell in notebook():
        tags = cell["metadata"].get("tags", [])
        if cell["cell_type"] != "code" or {"setup", "colab"} & set(tags):
            continue
        run_cell("".join(cell["source"]), names)
        if "parameters" in tags:
            assert set(toy) <= set(names)
            names |= toy
    table, picture = shown
    assert "| baseline | 6 | " in table and "| lora | 6 | " in table and "| naive: nearest | 6 |" in table
    assert picture[:4] == b"\x89PNG"
    shutil.rmtree(tmp_path / "toy")
