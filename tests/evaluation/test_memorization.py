"""Memorization is measured on rows that the arm was trained on, and the baseline is asked for the same first rows."""

import runpy
from types import SimpleNamespace
from unittest import mock

import pytest

from conftest import RECIPES
from medsft.evaluation import likelihood, memorization, probing
from medsft.files import write_json
from medsft.inference import part_files
from medsft.inference.shards import Shard

ROWS = [{"id": number, "group": number, "messages": []} for number in range(6)]


@pytest.mark.parametrize(("trained_on", "asked"), [(2, [0, 1]), (6, [0, 1, 2, 3, 4, 5]), (None, [0, 1, 2, 3, 4, 5])])
def test_an_arm_is_probed_on_the_rows_it_saw(tmp_path, trained_on, asked):
    if trained_on is not None:
        write_json(tmp_path / "train.json", {"comparable": {"train_rows": trained_on}})
    seen = []

    def recite(tokenizer, rows, wanted, complete):
        seen.extend(row["id"] for row in rows)
        return []

    answerer = SimpleNamespace(network=None, tokenizer=SimpleNamespace(pad_token_id=0))
    args = SimpleNamespace(likelihood_rows=0, batch_size=4, memorization_rows=9)
    script = runpy.run_path(str(RECIPES / "generate.py"))
    with (
        mock.patch.object(likelihood, "likelihood", return_value=[]),
        mock.patch.object(memorization, "memorization", recite),
        mock.patch.object(memorization, "probes", lambda _, rows, wanted: [*rows][:wanted]),
    ):
        seen_rows = script["trained_rows"](tmp_path)
        measured = probing.probe(answerer, [], ROWS, seen_rows, args, tmp_path, "x", Shard(0, 1))
    assert seen == asked
    assert measured == {part_files.MEMORIZATION: len(asked)}


def test_a_continuation_is_matched_token_by_token():
    truth = [*range(30)]
    assert memorization.match(truth, truth) == {"matched": 30, "agreement": 1, "recited": 1}
    assert memorization.match([0, 1, 9, 3], truth) == {"matched": 2, "agreement": 3 / 30, "recited": 0}
