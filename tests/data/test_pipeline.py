"""The pipeline and its transforms: cached tables, one row for each row, nothing done twice."""

from pathlib import Path

import pytest
from datasets import Dataset

from corpus import jsonl, pair, turns
from medsft.arguments import DataArguments
from medsft.data import transforms
from medsft.data.pipeline import KeyedTable, Pipeline, features, read_key
from medsft.data.reading.sources import parts_of
from medsft.data.transforms import CLEAN, DEIDENTIFY, GROUP_KEYS, Transform

CALLS: list[int] = []


def doubled(batch: dict[str, list[int]], times: int = 2, note: object = None) -> dict[str, list[object]]:
    CALLS.append(len(batch["n"]))
    return {"n": [times * n for n in batch["n"]]}


DOUBLE = Transform("double", doubled, {"n": "int32"}, ("data/transforms.py",))


@pytest.fixture
def numbers() -> KeyedTable:
    CALLS.clear()
    return KeyedTable(Dataset.from_dict({"n": [1, 2, 3]}), "k")


def test_a_transform_runs_again_exactly_when_its_outcome_could_differ(tmp_path: Path, numbers: KeyedTable) -> None:
    pipeline = Pipeline(tmp_path, workers=1)
    first = pipeline.run(DOUBLE, numbers)
    assert first.rows["n"] == [2, 4, 6] and CALLS == [3]
    assert pipeline.run(DOUBLE, numbers).key == first.key and CALLS == [3]
    keys = {
        first.key,
        pipeline.run(DOUBLE, numbers, times=3).key,
        pipeline.run(DOUBLE, numbers, depends_on="a newer model").key,
        pipeline.run(DOUBLE, KeyedTable(numbers.rows, "other rows")).key,
    }
    assert len(keys) == 4 and len(CALLS) == 4
    assert pipeline.run(DOUBLE, numbers, note=object()).key == first.key, "depends_on stands for what is no plain value"
    assert set(pipeline.seconds) == {"double"}


def test_files_of_earlier_options_and_of_killed_runs_go(tmp_path: Path, numbers: KeyedTable) -> None:
    cache = tmp_path / ".cache"
    Pipeline(cache, workers=1).run(DOUBLE, numbers)
    (tmp_path / ".data.0a1b2c3d.tmp").mkdir()
    pipeline = Pipeline(cache, workers=1)
    with pipeline.locked():
        kept = pipeline.run(DOUBLE, numbers, times=3)
        pipeline.delete_unused()
    assert {path.name for path in cache.iterdir()} == {"lock", f"double-{kept.key}.arrow"}
    assert [path.name for path in tmp_path.iterdir()] == [".cache"]


def test_dialogues_are_read_once_with_the_rejected_rows_beside_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "mine.jsonl"
    source.write_bytes(jsonl(pair(), pair(doctor_response=None)))
    args = DataArguments(data=[str(source)])
    sources = parts_of(args)
    table, rejected, listed = Pipeline(tmp_path / "cache", 1).read(args, sources)
    assert table.key == read_key(args, sources)
    assert table.rows[0] == {
        "id": "mine:1",
        "source": "mine",
        "official": "",
        "turns": turns("My ear hurts.", "Since when?"),
        "repairs": [],
        "statements": "",
    }
    assert [(row.row, row.reason) for row in rejected] == [(2, "null")] and listed.is_file()
    monkeypatch.setattr("medsft.data.pipeline.read_dialogues", None)  # would fail if it were called again
    again = Pipeline(tmp_path / "cache", 1).read(args, sources)
    assert (again[0].key, again[1]) == (table.key, rejected)
    source.write_bytes(jsonl(pair(), pair()))
    assert read_key(args, sources) != table.key


def test_turns_keep_their_shape_from_cleaning_to_the_token_budget() -> None:
    from medsft.models.loading import load_tokenizer
    from medsft.tokenization.chat_template import training_template

    dialogues = [turns("I cough.", "Rest. Hope this helps."), turns("Itch.", "Thanks for your query.")]
    cleaned = transforms.clean_batch({"turns": dialogues}, [])
    assert cleaned["turns"] == [turns("I cough.", "Rest."), []]
    assert cleaned["dropped"] == ["", "boilerplate_only"]
    redacted = transforms.deidentify_batch({"turns": cleaned["turns"], "language": cleaned["language"]}, [])  # type: ignore[typeddict-item]
    assert redacted["turns"] == cleaned["turns"] and redacted["dropped"] == ["", ""]
    keys = transforms.keys_batch({"turns": redacted["turns"]})  # type: ignore[typeddict-item]
    assert set(keys) == set(GROUP_KEYS.columns) and keys["opening"] == ["i cough rest", ""]
    tokenizer = load_tokenizer("embedded/SmolLM2-135M-Instruct")
    batch = {"turns": redacted["turns"]}
    fitted = transforms.fit_batch(batch, tokenizer, training_template(tokenizer), 64, "keep")  # type: ignore[arg-type]
    assert fitted["messages"] == cleaned["turns"]
    assert [count > 0 for count in fitted["prompt_tokens"]] == [True, False]  # type: ignore[operator]


def test_the_types_of_a_tables_columns() -> None:
    made = features(DEIDENTIFY.columns)
    assert str(made["dropped"]) == "Value('string')" and set(made) == set(DEIDENTIFY.columns)
    assert features(CLEAN.columns)["turns"].feature == {"role": made["dropped"], "content": made["dropped"]}
