"""score.py refuses bad input in one line that names file, row and field, and writes nothing."""

import pyarrow
import pyarrow.parquet
import pytest

from medsft.files import read_jsonl, write_jsonl
from scored_study import make, score, write_arm, written


@pytest.fixture
def study(tmp_path):
    return make(tmp_path)


def damage(file, **changes):
    rows = read_jsonl(file)
    rows[1] = {key: value for key, value in {**rows[1], **changes}.items() if value is not None}
    write_jsonl(file, rows)


def tear(path):
    """Zeros over the first block, as a write leaves them that the machine's end cut short; the footer stays whole."""
    with path.open("r+b") as handle:
        handle.seek(4)
        handle.write(bytes(60))


BAD_STUDIES = {
    "a field is missing": (
        lambda study: damage(study / "lora" / "generations.jsonl", prediction=None),
        ["lora/generations.jsonl", "row 2", "'prediction'"],
    ),
    "a field has another type": (
        lambda study: damage(study / "lora" / "generations.jsonl", stopped="yes"),
        ["lora/generations.jsonl", "row 2", "'stopped'"],
    ),
    "an id comes twice": (
        lambda study: damage(study / "baseline" / "generations.jsonl", id="row0"),
        ["baseline/generations.jsonl", "row 2", "'id'"],
    ),
    "arms have other references": (
        lambda study: damage(study / "lora" / "generations.jsonl", reference="Rest."),
        ["lora/generations.jsonl", "row 2", "'reference'"],
    ),
    "no common rows": (
        lambda study: write_arm(study, "lora", range(20, 24), lambda row, n: "Rest."),
        ["lora/generations.jsonl", "'id'", "baseline"],
    ),
    "an empty file": (
        lambda study: (study / "lora" / "generations.jsonl").write_text(""),
        ["lora/generations.jsonl", "no rows"],
    ),
    "no training split": (
        lambda study: (study / "data" / "train.parquet").unlink(),
        ["train.parquet", "prepare_data.py"],
    ),
    "a training split that is no Parquet": (
        lambda study: (study / "data" / "train.parquet").write_text("id,source"),
        ["train.parquet", "not a readable Parquet", "prepare_data.py"],
    ),
    "a training split with a torn block": (
        lambda study: tear(study / "data" / "train.parquet"),
        ["train.parquet", "not a readable Parquet", "prepare_data.py"],
    ),
    "a training split with other columns": (
        lambda study: pyarrow.parquet.write_table(pyarrow.table({"id": ["a"]}), study / "data" / "train.parquet"),
        ["train.parquet", "'messages'", "prepare_data.py"],
    ),
}


@pytest.mark.parametrize("case", BAD_STUDIES)
def test_bad_input_is_refused_in_one_line_that_names_it(study, case):
    spoil, expected = BAD_STUDIES[case]
    spoil(study)
    done = score(study)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert all(part in done.stderr for part in expected), done.stderr
    assert not written(study)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--confidence", "95"], "confidence 95"),
        (["--resamples", "0"], "resamples 0"),
        (["--seed", "-1"], "seed -1"),
        (["--max_rows", "0"], "max_rows 0"),
        (["--bert_dtype", "float16"], "bert_dtype 'float16'"),
        (["--bert_layer", "9"], "layers 1 to 6"),
        (["--study_dir", "/nowhere"], "no such study"),
        (["--resample", "5"], "'resamples'"),
        (["--primary", "rouge1", "rogue2"], "primary: 'rogue2' is not scored"),
    ],
)
def test_bad_options_are_refused_in_one_line(study, flags, expected):
    done = score(study, *flags)
    assert done.returncode == 2
    assert expected in done.stderr.splitlines()[-1]


def test_one_reference_cannot_be_scored(study):
    for arm in ("baseline", "lora"):
        write_arm(study, arm, [0], lambda row, n: "Rest.")
    done = score(study)
    assert done.returncode == 2
    assert "at least two different ones" in done.stderr
