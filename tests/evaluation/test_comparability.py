"""Arms that were not trained alike are not compared, unless the difference is allowed."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from conftest import run_here
from medsft.errors import UserError
from medsft.evaluation import comparability
from synthetic_study import make_study

ALIKE = {"data": "d1", "template": "t1", "max_length": 512, "rows_seen": 48}


def records(**changed: Any) -> dict[str, dict[str, Any]]:
    return {
        "lora": {"comparable": ALIKE, "seed": 42},
        "full": {"comparable": ALIKE | changed, "seed": changed.pop("seed", 42)},
    }


def test_arms_trained_alike_are_compared() -> None:
    assert comparability.check(records(), []) == []


@pytest.mark.parametrize("key", ["data", "template", "max_length", "rows_seen"])
def test_any_difference_is_refused_by_name_and_may_be_allowed(key: str) -> None:
    with pytest.raises(UserError, match=rf"differ in '{key}' \(lora: .*, full: other\).*--allow_unequal {key}"):
        comparability.check(records(**{key: "other"}), [])
    assert comparability.check(records(**{key: "other"}), [key]) == [key]


def test_seeds_must_be_the_same_list() -> None:
    arms = {
        name: {"comparable": ALIKE, "seed": seed} for name, seed in (("lora", 42), ("lora_seed43", 43), ("full", 42))
    }
    with pytest.raises(UserError, match="differ in 'seeds'"):
        comparability.check(arms, [])
    arms["full_seed43"] = {"comparable": ALIKE, "seed": 43}
    assert comparability.check(arms, []) == []


def test_scoring_refuses_unequal_arms_before_it_loads_anything(tmp_path: Path) -> None:
    study = make_study(tmp_path, ("baseline", "lora", "full"))
    for arm in ("baseline", "full"):  # the synthetic arms were asked different questions
        shutil.copy(study / "lora" / "generations.jsonl", study / arm / "generations.jsonl")
    for arm, rows in (("lora", 48), ("full", 480)):
        path = study / arm / "train.json"
        path.write_text(
            json.dumps(json.loads(path.read_text()) | {"comparable": ALIKE | {"data": "1" * 16, "rows_seen": rows}})
        )
    done = run_here("score.py", "--study_dir", study)
    assert done.returncode == 2
    assert "the arms differ in 'rows_seen' (" in done.stderr
    assert "--allow_unequal rows_seen" in done.stderr


def test_an_arm_of_another_engine_is_named(tmp_path: Path) -> None:
    for arm, engine, precision in (
        ("baseline", "transformers", "bfloat16"),
        ("qlora", "transformers", "nf4 with bfloat16"),
        ("lora_q8", "llama.cpp", "q8_0"),
    ):
        (tmp_path / arm).mkdir()
        (tmp_path / arm / "generation.json").write_text(json.dumps({"engine": engine, "precision": precision}))
    assert comparability.engines(tmp_path, ["baseline", "lora_q8", "old", "qlora"]) == [
        "lora_q8: answered by llama.cpp (q8_0), baseline by transformers (bfloat16), "
        "so they differ in engine and precision too"
    ]
