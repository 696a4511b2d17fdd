"""The report stage on synthetic study folders: what it writes, says and refuses, and that it is safe to open."""

import json
import os
import random
import struct
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medsft import published
from medsft.arguments import ReportArguments
from medsft.cli import UserError
from medsft.formats import md
from medsft.report import draw_examples, input_fingerprint, write_report
from medsft.results import load_study
from medsft.verdict import verdict

REPOSITORY = Path(__file__).resolve().parent.parent
METRICS = {
    "rouge1": 0.22,
    "rouge2": 0.035,
    "rougeL": 0.13,
    "bertscore_f1": 0.42,
    "bertscore_f1_rescaled": 0.15,
    "rouge1_precision": 0.25,
    "rouge1_recall": 0.2,
    "end_of_turn": 0.9,
    "length_ratio": 1.4,
}
PRIMARY = ("rouge1", "rouge2", "rougeL", "bertscore_f1")
FLOORS = {"constant": 0.9, "shuffled": 0.8, "echo": 0.7, "nearest": 1.05}
GAINS = {"lora": 0.04, "qlora": 0.03, "full": 0.0005}
HOSTILE = "<script>alert(1)</script> | ![x](http://evil.example/x.png) <img src=http://evil.example/y onerror=alert(2)>"
SIZE = 44


def dump(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")


def around(mean: float, half: float = 0.015) -> dict[str, float]:
    return {"mean": mean, "low": mean - half, "high": mean + half}


def write_arm(folder: Path, gain: float, hostile: str) -> None:
    rng = random.Random(folder.name)
    rows = [
        {
            "id": f"row-{i}",
            "group": f"g{i // 2}",
            "source": "sample",
            "prompt": hostile
            if i == 3
            else f"Patient message {i}: " + "my knee hurts when I walk " * rng.randint(1, 12),
            "reference": f"Reference {i}: " + "rest it and see someone if it swells " * rng.randint(1, 8),
            "prediction": f"{folder.name} says {hostile}"
            if i == 3
            else f"{folder.name} answer {i} " + "rest " * rng.randint(4, 90),
            "stopped": i % 5 != 0,
            "new_tokens": 40 + i,
        }
        for i in range(SIZE)
    ]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "generations.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    metrics = {name: around(value + gain) for name, value in METRICS.items()}
    dump(folder / "scores.json", {"arm": folder.name, "n": SIZE, "metrics": metrics, "settings": {}})
    versions = {"python": "3.11.2", "torch": "2.13.0"}
    dump(folder / "generation.json", {"base_model": "toy-135M", "settings": {"batch_size": 16}, "versions": versions})


def write_train(folder: Path, steps: int, slope: float, device_bytes: int) -> None:
    history: list[dict[str, float]] = [{"step": 0, "eval_loss": 2.6}]
    for step in range(1, steps + 1):
        history.append({"step": step, "loss": 2.6 - slope * step**0.5, "learning_rate": 1e-4})
        if step % 5 == 0:
            history.append({"step": step, "eval_loss": 2.6 - slope * 0.8 * step**0.5})
    total, trainable = 134_515_008, 134_515_008 if folder.name.startswith("full") else 4_884_480
    dump(
        folder / "train.json",
        {
            "arm": folder.name,
            "base_model": "toy-135M",
            "total_parameters": total,
            "trainable_parameters": trainable,
            "trainable_percent": 100 * trainable / total,
            "steps": steps,
            "tokens_seen": 41_234,
            "answer_tokens_seen": 20_871,
            "wall_seconds": 93.4,
            "tokens_per_second": 441.5,
            "best_step": 20,
            "seed": 42,
            "peak_memory": {"device_bytes": device_bytes, "host_bytes": 3_100_000_000},
            "predicted_memory": {"device_bytes": device_bytes, "host_bytes": 2_900_000_000},
            "history": history,
            "versions": {"python": "3.11.2", "torch": "2.13.0", "trl": "1.16.0"},
            "fingerprint": "0" * 16,
        },
    )
    (folder / "config.yaml").write_text("learning_rate: 0.0002\nlora_r: 16\n", encoding="utf-8")


def write_data_report(study: Path) -> None:
    rng = random.Random(1)
    lengths = [min(512, int(rng.lognormvariate(5.2, 0.5))) for _ in range(230)]
    report = {
        "rows_read": 360,
        "rows_kept": 320,
        "dropped": {"empty_answer": 8, "exact_duplicate": 32},
        "repaired": {"encoding": 5},
        "redacted": {"url": 11, "phone": 7, "name": 24},
        "duplicates": {"exact": 32, "near": 18, "groups": 297},
        "splits": {
            "train": {"rows": 230, "groups": 208},
            "dev": {"rows": 32, "groups": 30},
            "test": {"rows": 58, "groups": 59},
        },
        "tokens": {"train": {"prompt": 21_000, "answer": 20_871, "total": 41_871, "max": max(lengths)}},
        "truncated": {"prompt": 6, "answer": 0},
        "fingerprint": "1" * 16,
        "arguments": {"data": "sample", "max_length": 512},
        "lengths": lengths,
    }
    dump(study / "data" / "data_report.json", report)


def write_plan(study: Path) -> None:
    parts = {"weights": 540_000_000, "gradients": 540_000_000, "optimizer": 1_080_000_000, "activations": 300_000_000}
    rows = [
        {"name": "lora", "device_bytes": parts, "host_bytes": 2_900_000_000, "fits": True, "reason": "leaves 9.0 GB"},
        {
            "name": "full",
            "device_bytes": parts,
            "host_bytes": 39_000_000_000,
            "fits": False,
            "reason": "needs 15.0 GB more",
        },
    ]
    dump(
        study / "plan.json",
        {"hardware": {"gpus": 0}, "strategies": rows, "recommended": "lora", "recommended_reason": "it fits"},
    )


def write_comparison(study: Path, arms: list[str]) -> None:
    floors = {
        name: {"n": SIZE, "metrics": {m: around(v * share) for m, v in METRICS.items()}}
        for name, share in FLOORS.items()
    }
    rows = [
        {
            "metric": metric,
            "baseline": "baseline",
            "arm": arm,
            "difference": GAINS[arm],
            "low": GAINS[arm] - 0.012,
            "high": GAINS[arm] + 0.012,
            "p": 0.0004 if GAINS[arm] > 0.01 else 0.7,
            "p_holm": 0.0048 if GAINS[arm] > 0.01 else 1.0,
            "n": SIZE,
        }
        for arm in arms
        if arm != "baseline"
        for metric in PRIMARY
    ]
    dump(
        study / "comparison.json", {"floors": floors, "comparisons": rows, "settings": {"confidence": 0.95, "seed": 42}}
    )


def make_study(
    folder: Path, arms: tuple[str, ...] = ("baseline", "lora", "qlora", "full"), hostile: str = HOSTILE
) -> Path:
    """A study folder with the shapes that the real stages write."""
    study = folder / "synthetic"
    write_data_report(study)
    write_plan(study)
    for arm in arms:
        write_arm(study / arm, GAINS.get(arm, 0.0), hostile)
        if arm != "baseline":
            write_train(study / arm, 30, 0.05 + GAINS[arm], 0)
    if "full" in arms:
        write_train(study / "full_zero3", 4, 0.0501 + GAINS["full"], 0)
    write_comparison(study, list(arms))
    return study


def arguments(study: Path, **options: Any) -> ReportArguments:
    return ReportArguments(study_dir=str(study), **options)


@pytest.fixture(scope="module")
def full_report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, _, _ = write_report(arguments(make_study(tmp_path_factory.mktemp("study"))))
    return folder


def strict_json(path: Path) -> Any:
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} in {path}")

    return json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)


class Page(HTMLParser):
    """Collects tags, addresses, visible text and open elements of a page."""

    VOID = ("meta", "img", "br", "link", "input")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.events: list[str] = []
        self.titles: list[str] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "action", "data")]
        self.events += [name for name, _ in attrs if name.startswith("on")]
        self.titles += [value or "" for name, value in attrs if name == "title"]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_results_hold_the_contract(full_report: Path) -> None:
    results = strict_json(full_report / "results.json")
    assert list(results["arms"]) == ["baseline", "lora", "qlora", "full"]
    for arm in results["arms"].values():
        assert arm["n"] == SIZE
        assert all(value["low"] <= value["mean"] <= value["high"] for value in arm["metrics"].values())
    assert list(results["floors"]) == ["constant", "shuffled", "echo", "nearest"]
    assert {"metric", "baseline", "arm", "difference", "low", "high", "p", "p_holm", "n"} <= results["comparisons"][
        0
    ].keys()
    assert results["memory"]["qlora"]["measured"]["host_bytes"] == 3_100_000_000
    assert results["memory"]["qlora"]["predicted"]["host_bytes"] == 2_900_000_000
    assert results["cost"]["full"]["wall_seconds"] == 93.4 and results["cost"]["full"]["tokens_seen"] == 41_234
    assert results["data"]["rows_kept"] == 320 and "lengths" not in results["data"]
    assert results["versions"]["baseline"]["torch"] == "2.13.0"
    assert len(results["fingerprint"]) == 16


def test_study_table_is_the_published_one_beside_ours(full_report: Path) -> None:
    rows = {row["metric"]: row for row in strict_json(full_report / "results.json")["study_table"]}
    assert (rows["rougeL"]["published_baseline"], rows["rougeL"]["published_finetuned"]) == (0.0678, 0.1043)
    assert rows["rouge1"]["published_n"] == 1
    assert rows["rouge1"]["ours"]["lora"]["mean"] == pytest.approx(0.26)


@pytest.mark.parametrize(
    ("metric", "base_hits", "tuned_hits", "per_text"), [("rouge1", 6, 7, 0), ("rouge2", 1, 2, 1), ("rougeL", 4, 6, 0)]
)
def test_published_rouge_inverts_to_whole_counts(metric: str, base_hits: int, tuned_hits: int, per_text: int) -> None:
    """F1 = 2 hits / (length + 14), with 104 and 101 tokens against a reference of 14; a bigram fewer on both sides."""
    row = next(row for row in published.TABLE_5 if row.metric == metric)
    assert round(2 * base_hits / (104 + 14 - 2 * per_text), 4) == row.baseline
    assert round(2 * tuned_hits / (101 + 14 - 2 * per_text), 4) == row.fine_tuned


@pytest.mark.parametrize("name", ["loss", "scores", "lengths"])
def test_figures_are_pngs_of_a_sensible_size(full_report: Path, name: str) -> None:
    content = (full_report / "figures" / f"{name}.png").read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n" and content[12:16] == b"IHDR"
    width, height = struct.unpack(">II", content[16:24])
    assert 900 <= width <= 1200 and 400 <= height <= 2000


def test_page_is_self_contained_and_well_formed(full_report: Path) -> None:
    page = Page((full_report / "report.html").read_text(encoding="utf-8"))
    assert page.open == []
    assert not {"script", "iframe", "link", "object", "embed", "form"} & set(page.tags)
    assert page.events == []
    assert all(address.startswith(("data:image/png;base64,", "#")) for address in page.addresses)
    assert sum(address.startswith("data:") for address in page.addresses) == 3 == page.tags.count("img")
    for file in ("lora/scores.json", "comparison.json", "full/train.json", "data/data_report.json", "plan.json"):
        assert file in page.titles


def test_hostile_dialogue_is_text_in_both_forms(tmp_path: Path) -> None:
    study = make_study(tmp_path, ("baseline", "lora"))
    folder, _, _ = write_report(arguments(study, examples=SIZE))  # every row, so the hostile one too
    html, markdown = ((folder / name).read_text(encoding="utf-8") for name in ("report.html", "report.md"))
    assert "<script" not in html + markdown
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt; \\| !\\[x\\](http" in markdown
    assert "onerror" in Page(html).text and "<img src=http" not in html + markdown


def test_markdown_cuts_long_texts_and_the_page_does_not(tmp_path: Path) -> None:
    study = make_study(tmp_path, ("baseline",), hostile="word " * 400)
    folder, _, _ = write_report(arguments(study, examples=SIZE))
    assert "word " * 399 in (folder / "report.html").read_text(encoding="utf-8")
    rows = [
        line
        for line in (folder / "report.md").read_text(encoding="utf-8").splitlines()
        if line.startswith("| Patient |")
    ]
    assert len(rows) == SIZE and max(map(len, rows)) <= 300 + len("| Patient |  |")


@given(st.text(max_size=80))
def test_markdown_escape_leaves_no_markup_and_no_new_line(text: str) -> None:
    escaped = md(text)
    assert "<" not in escaped and len(escaped.splitlines()) <= 1
    plain = escaped.replace("\\\\", "")
    for mark in "|*_`[]":
        assert plain.count(mark) == plain.count("\\" + mark)


@pytest.mark.parametrize("arms", [("baseline",), ("baseline", "full")])
def test_smaller_studies_without_a_plan(tmp_path: Path, arms: tuple[str, ...]) -> None:
    study = make_study(tmp_path, arms)
    (study / "plan.json").unlink()
    folder, results, _ = write_report(arguments(study))
    assert tuple(results["arms"]) == arms
    assert "no plan.json" in (folder / "report.md").read_text(encoding="utf-8")
    assert len(results["verdict"]) == 2
    assert ("Nothing can be said" in results["verdict"][0]) == (arms == ("baseline",))
    assert ("No arm of this study was trained" in (folder / "report.html").read_text(encoding="utf-8")) == (
        len(arms) == 1
    )


def test_verdict_names_differences_intervals_n_and_floors(full_report: Path) -> None:
    results = strict_json(full_report / "results.json")
    first, second = results["verdict"]
    assert "n = 44" in first and "lora scores above the baseline on ROUGE-1 by 0.040 [0.028, 0.052]" in first
    assert (
        "no difference from the baseline was shown for full" in first
        and "from −0.011 to +0.013 remains possible" in first
    )
    assert "0 of 4 for baseline, 4 for lora, 3 for qlora and 0 for full" in second
    assert "baseline is not clearly above the constant answer on ROUGE-2 (0.035 [0.020, 0.050] against 0.032)" in second
    assert "ROUGE-1" not in second


@pytest.mark.parametrize(
    ("p_holm", "difference", "expected"),
    [
        (0.049, 0.02, "scores above"),
        (0.049, -0.02, "scores below"),
        (0.051, 0.02, "no difference"),
        (0.051, -0.02, "no difference"),
    ],
)
def test_verdict_follows_the_corrected_p(p_holm: float, difference: float, expected: str) -> None:
    row = {"metric": "rouge1", "baseline": "baseline", "arm": "lora", "difference": difference, "n": 50}
    row |= {"low": difference - 0.01, "high": difference + 0.01, "p": 0.01, "p_holm": p_holm}
    arm = {"n": 50, "metrics": {"rouge1": around(0.2)}}
    results = {
        "arms": {"baseline": arm, "lora": arm},
        "floors": {},
        "comparisons": [row],
        "primary": ["rouge1"],
        "confidence": 0.95,
        "alpha": 0.05,
    }
    assert expected in verdict(results)[0]
    assert "No floor was scored" in verdict(results)[1]


def test_offload_run_stands_beside_full(full_report: Path) -> None:
    rows = strict_json(full_report / "results.json")["offload_check"]["full_zero3"]
    assert [row["step"] for row in rows] == [1, 2, 3, 4]
    assert rows[0]["difference"] == pytest.approx(-0.0001)
    assert "ZeRO-3 offload check: full_zero3" in Page((full_report / "report.html").read_text(encoding="utf-8")).text


def test_trained_but_unscored_arm_is_named(tmp_path: Path) -> None:
    study = make_study(tmp_path, ("baseline", "lora"))
    write_train(study / "qlora", 10, 0.05, 0)
    folder, results, _ = write_report(arguments(study))
    assert "qlora" not in results["arms"]
    assert "qlora: begun, but not scored" in (folder / "report.md").read_text(encoding="utf-8")


def test_loss_that_became_nan_is_reported_as_missing(tmp_path: Path) -> None:
    study = make_study(tmp_path, ("baseline", "full"))
    train = json.loads((study / "full" / "train.json").read_text(encoding="utf-8"))
    for row in train["history"]:
        if row["step"] == 2 and "loss" in row:
            row["loss"] = float("nan")
    train["tokens_per_second"] = float("inf")
    dump(study / "full" / "train.json", train)
    folder, _, _ = write_report(arguments(study))
    results = strict_json(folder / "results.json")
    assert results["cost"]["full"]["tokens_per_second"] is None
    assert [row["step"] for row in results["offload_check"]["full_zero3"]] == [1, 3, 4]


def test_examples_are_drawn_by_seed_among_rows_that_all_answered(tmp_path: Path) -> None:
    study = make_study(tmp_path, ("baseline", "lora"))
    lines = (study / "lora" / "generations.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (study / "lora" / "generations.jsonl").write_text("".join(lines[:30]), encoding="utf-8")
    scores = json.loads((study / "lora" / "scores.json").read_text(encoding="utf-8"))
    dump(study / "lora" / "scores.json", scores | {"n": 30})
    loaded = load_study(study)
    drawn = [[row["id"] for row in draw_examples(loaded, 10, seed)] for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2] and len(drawn[0]) == 10
    everything = draw_examples(loaded, 1000, 1)
    assert [row["id"] for row in everything] == [f"row-{i}" for i in range(30)]
    assert set(everything[0]["answers"]) == {"baseline", "lora"}


def test_second_run_does_nothing_and_a_lost_file_comes_back(tmp_path: Path) -> None:
    study = make_study(tmp_path, ("baseline", "lora"))
    folder, first, done = write_report(arguments(study))
    written = (folder / "report.html").stat().st_mtime_ns
    assert not done
    assert write_report(arguments(study))[1:] == (first, True)
    assert (folder / "report.html").stat().st_mtime_ns == written
    (folder / "report.md").unlink()
    assert write_report(arguments(study, examples=3))[2] is False and (folder / "report.md").is_file()
    assert not [path for path in study.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize(
    "name",
    ["data/data_report.json", "plan.json", "comparison.json", "lora/config.yaml", "lora/train.json", "lora/scores.json"]
    + ["baseline/generations.jsonl", "full_zero3/train.json"],
)
def test_fingerprint_covers_every_input(tmp_path: Path, name: str) -> None:
    study = make_study(tmp_path, ("baseline", "lora", "full"))
    before = input_fingerprint(study, arguments(study))
    assert input_fingerprint(study, arguments(study)) == before
    assert input_fingerprint(study, arguments(study, title="another")) != before
    with (study / name).open("a", encoding="utf-8") as handle:
        handle.write(" ")
    assert input_fingerprint(study, arguments(study)) != before


@pytest.mark.parametrize(
    ("missing", "stage"),
    [
        (["data/data_report.json"], "prepare_data.py"),
        (["comparison.json"], "score.py"),
        (["baseline/scores.json", "lora/scores.json"], "score.py"),
        (["baseline/generations.jsonl", "lora/generations.jsonl"], "generate.py"),
        (["lora/generations.jsonl"], "generate.py"),
    ],
)
def test_missing_input_names_the_stage(tmp_path: Path, missing: list[str], stage: str) -> None:
    study = make_study(tmp_path, ("baseline", "lora"))
    for name in missing:
        (study / name).unlink()
    with pytest.raises(UserError, match=stage) as error:
        write_report(arguments(study))
    assert "\n" not in str(error.value) and not (study / "report").exists()


def test_scores_of_other_answers_are_refused(tmp_path: Path) -> None:
    study = make_study(tmp_path, ("baseline",))
    with (study / "baseline" / "generations.jsonl").open("a", encoding="utf-8") as handle:
        handle.write('{"id": "new"}\n')
    with pytest.raises(UserError, match=r"scores.json is of 44 answers, generations.jsonl has 45.*score.py"):
        write_report(arguments(study))


@pytest.mark.parametrize("file", ["baseline/scores.json", "comparison.json"])
def test_score_that_is_no_number_is_refused(tmp_path: Path, file: str) -> None:
    study = make_study(tmp_path, ("baseline", "lora"))
    text = (study / file).read_text(encoding="utf-8").replace('"low": ', '"low": NaN, "was": ', 1)
    (study / file).write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=file):
        write_report(arguments(study))


def test_negative_examples_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="examples -1"):
        write_report(arguments(make_study(tmp_path, ("baseline",)), examples=-1))


def test_arm_names_cannot_break_the_figures(tmp_path: Path) -> None:
    study = make_study(tmp_path, ("baseline", "lora"))
    (study / "lora").rename(study / "a$b_{c$<i>|")
    folder, results, _ = write_report(arguments(study))
    assert "a$b_{c$<i>|" in results["arms"]
    assert "<i>" not in (folder / "report.html").read_text(encoding="utf-8") + (folder / "report.md").read_text(
        encoding="utf-8"
    )


def run_script(*options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(REPOSITORY / "recipes" / "report.py"), *options]
    return subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False
    )


def test_script_prints_the_verdict_and_the_paths(tmp_path: Path) -> None:
    study = make_study(tmp_path, ("baseline", "lora"))
    done = run_script("--study_dir", str(study), "--examples", "2", "--title", "A & B <b>")
    assert done.returncode == 0, done.stderr
    assert "lora scores above the baseline" in done.stdout and str(study / "report" / "report.html") in done.stdout
    assert "<h1>A &amp; B &lt;b&gt;</h1>" in (study / "report" / "report.html").read_text(encoding="utf-8")
    assert HOSTILE not in done.stdout + done.stderr


def test_script_refuses_an_empty_folder(tmp_path: Path) -> None:
    done = run_script("--study_dir", str(tmp_path / "nowhere"))
    assert done.returncode == 2
    assert (
        done.stderr.strip().startswith("error: ")
        and "prepare_data.py" in done.stderr
        and "Traceback" not in done.stderr
    )
