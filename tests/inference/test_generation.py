"""Answers of an arm: batching, seeds, crashes, engines, likelihood and memorization, on a tiny model."""

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from conftest import RECIPES, run_script
from medsft.arguments import GenerateArguments
from medsft.data.split_files import load_split
from medsft.errors import UserError
from medsft.evaluation import likelihood, memorization
from medsft.files import read_json, read_jsonl
from medsft.inference import generation, vllm_backend
from medsft.models import loading

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def study(tiny_study: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("answers") / "study"
    shutil.copytree(tiny_study / "data", folder / "data")
    return folder


@pytest.fixture(scope="module")
def rows(study: Path) -> list[dict]:
    return load_split(str(study), "test").to_list()[:12]


@pytest.fixture(scope="module")
def answerer(study: Path, random_model: Path) -> generation.Answerer:
    return generation.load(
        GenerateArguments(study_dir=str(study), model_name_or_path=str(random_model), dtype="float32")
    )


def options(study: Path, random_model: Path, **changes: object) -> GenerateArguments:
    values = {
        "study_dir": str(study),
        "model_name_or_path": str(random_model),
        "max_new_tokens": 12,
        "dtype": "float32",
    }
    return GenerateArguments(**{**values, **changes})


def texts(answerer: generation.Answerer, rows: list, args: GenerateArguments, sampling=None, done=frozenset()) -> dict:
    batches = generation.answers(answerer, rows, set(done), args, [sampling])
    return {row["id"]: row["prediction"] for (batch,) in batches for row in batch}


def test_a_batch_answers_as_one_by_one(answerer, rows, study, random_model) -> None:
    one = texts(answerer, rows, options(study, random_model, batch_size=1))
    assert texts(answerer, rows, options(study, random_model, batch_size=5)) == one
    assert len(set(one.values())) > 1


def test_sampling_follows_its_seed_and_not_what_was_done_before(answerer, rows, study, random_model) -> None:
    args = options(study, random_model, batch_size=4)
    first, other = (generation.Sampling(1.0, 0.9, seed) for seed in (1, 2))
    whole = texts(answerer, rows, args, first)
    assert whole != texts(answerer, rows, args, other)
    done = {row["id"] for row in sorted(rows, key=lambda r: -r["prompt_tokens"])[:4]}
    rest = texts(answerer, rows, args, first, done)
    assert 0 < len(rest) < len(whole) or rest == whole
    assert all(whole[name] == text for name, text in rest.items())


def test_a_penalty_on_repetition_is_greedy_and_changes_answers(answerer, rows, study, random_model) -> None:
    args = options(study, random_model, batch_size=4, max_new_tokens=24)
    penalty = generation.Sampling(0.0, 1.0, 0, 5.0)
    penalised = texts(answerer, rows, args, penalty)
    assert penalised == texts(answerer, rows, args, penalty)
    assert penalised != texts(answerer, rows, args)


def test_a_killed_run_goes_on_and_ends_as_a_whole_one(
    study: Path, random_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # so small a model only waits for a second thread
    shutil.copytree(study / "data", tmp_path / "killed" / "data")
    shutil.copytree(study / "data", tmp_path / "whole" / "data")
    flags = ["--model_name_or_path", random_model, "--max_new_tokens", 60, "--batch_size", 1, "--max_rows", 8]
    flags += [
        "--do_sample",
        "true",
        "--seeds",
        3,
        "--likelihood_rows",
        5,
        "--memorization_rows",
        4,
        "--dtype",
        "float32",
    ]
    command = [sys.executable, RECIPES / "generate.py", "--study_dir", tmp_path / "killed", *flags]
    process = subprocess.Popen([*map(str, command)], stderr=subprocess.DEVNULL, env=dict(os.environ))
    folder = tmp_path / "killed" / "baseline"
    until = time.monotonic() + 600
    while time.monotonic() < until and not [p for p in folder.glob("*.partial.jsonl") if p.read_text().count("\n") > 2]:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    (partial,) = folder.glob("generations.*.partial.jsonl")
    kept = len(partial.read_text().splitlines())
    assert kept > 2
    with partial.open("a") as handle:
        handle.write('{"id": "torn')  # what a crash in the middle of a line leaves
    assert not (folder / "generations.jsonl").exists()
    for name in ("killed", "whole"):
        done = run_script("generate.py", "--study_dir", tmp_path / name, *flags)
        assert done.returncode == 0, done.stderr[-2000:]
    for name in ("generations.jsonl", "sampled/seed_3.jsonl", "likelihood.jsonl", "memorization.jsonl"):
        assert (folder / name).read_text() == (tmp_path / "whole" / "baseline" / name).read_text()
    assert not [*folder.rglob("*.partial.jsonl")]
    record = read_json(folder / "generation.json")
    assert record["settings"]["seeds"] == [3]
    assert record["engine"] == "transformers"
    assert len(read_jsonl(folder / "likelihood.jsonl")) == 5


def test_likelihood_is_the_models_own_loss_on_the_answer(answerer, rows) -> None:
    measured = likelihood.likelihood(
        answerer.tokenizer, rows, 5, lambda some: likelihood.batch_nll(answerer.network, some, 0)
    )
    template = likelihood.training_template(answerer.tokenizer)
    for row, found in zip(rows, measured, strict=True):
        scored = likelihood.last_answer(answerer.tokenizer, row["messages"], template)
        labels = torch.full((1, len(scored.ids)), -100)
        labels[0, scored.positions] = torch.tensor(scored.ids)[scored.positions]
        with torch.inference_mode():
            loss = answerer.network(input_ids=torch.tensor([scored.ids]), labels=labels).loss.item()
        assert found["nll"] == pytest.approx(loss * found["tokens"], rel=1e-4)
        answer = answerer.tokenizer.decode([scored.ids[at] for at in scored.positions])
        assert answer.startswith(row["messages"][-1]["content"].strip()[:20])
        assert answer.rstrip().endswith("<|im_end|>")
    uniform = len(answerer.tokenizer)
    perplexity = math.exp(sum(row["nll"] for row in measured) / sum(row["tokens"] for row in measured))
    assert 0.3 * uniform < perplexity < 3 * uniform  # a random model knows nothing


def test_a_model_that_knows_the_row_by_heart_is_found_out(answerer, rows) -> None:
    """The completion that returns the truth recites everything; the random model next to nothing."""
    tokenizer = answerer.tokenizer
    truth = {tuple(prompt): rest for _, prompt, rest in memorization.probes(tokenizer, rows, 6)}
    assert len(truth) == 6
    by_heart = memorization.memorization(tokenizer, rows, 6, lambda asked, n: [truth[tuple(p)][:n] for p in asked])
    assert all(row["recited"] == 1 and row["matched"] == 30 for row in by_heart)
    guessed = memorization.memorization(tokenizer, rows, 6, lambda asked, n: generation.complete(answerer, asked, n))
    assert all(row["recited"] == 0 and row["matched"] < 5 for row in guessed)
    assert memorization.match([5, 6, 9], [5, 6, 7, 9]) == {"matched": 2.0, "agreement": 0.5, "recited": 0.0}


def test_arms_of_every_kind_answer_and_merging_changes_no_answer(study: Path, random_model: Path, rows: list) -> None:
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(3)
    network = get_peft_model(
        loading.load_model(str(random_model), "float32"),
        LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False, task_type="CAUSAL_LM"),
    )
    arm = study / "lora"
    network.save_pretrained(arm / "adapter")
    loading.load_tokenizer(str(random_model)).save_pretrained(arm / "adapter")
    network.merge_and_unload().save_pretrained(study / "full" / "model")
    loading.load_tokenizer(str(random_model)).save_pretrained(study / "full" / "model")
    for name in ("lora", "full"):
        record = {"base_model": str(random_model), "quantization": None, "fingerprint": "x"}
        (study / name / "train.json").write_text(json.dumps(record))
    answered = {}
    for name, changes in {
        "baseline": {},
        "baseline_nf4": {"quantization": "nf4"},
        "lora": {},
        "lora merged": {"merge": True},
        "full": {},
    }.items():
        args = options(study, random_model, arm=name.split()[0], **changes)
        loaded = generation.load(args)
        assert ("nf4" in loaded.precision) == (name == "baseline_nf4")
        answered[name] = texts(loaded, rows, args)
    assert answered["lora"] == answered["lora merged"] == answered["full"]
    assert answered["lora"] != answered["baseline"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"quantization": "int3"}, "quantization 'int3'"),
        ({"engine": "fast"}, "engine 'fast'"),
        ({"do_sample": True, "seeds": [1, 1]}, "seeds"),
        ({"batch_size": 0}, "batch_size 0"),
        ({"do_sample": True, "top_p": 0.0}, "top_p 0.0: give"),
        ({"do_sample": True, "temperature": 0.0}, "temperature 0.0, top_p 0.9: give both above 0"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        generation.check(GenerateArguments(**changes))


@pytest.mark.skipif(vllm_backend.installed(), reason="vLLM is here")
def test_vllm_is_refused_where_it_cannot_run() -> None:
    with pytest.raises(UserError, match="engine vllm: vLLM is not installed"):
        generation.check(GenerateArguments(engine="vllm"))


@pytest.mark.skipif(not vllm_backend.available(), reason="needs vLLM and a GPU")
def test_vllm_gives_the_same_greedy_answers(study: Path, random_model: Path, rows: list) -> None:
    args = options(study, random_model, engine="transformers")
    ours = texts(generation.load(args), rows, args)
    args = options(study, random_model, engine="vllm")
    assert texts(generation.load(args), rows, args) == ours


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"endpoint": ["here"]}, "give an address such as"),
        ({"endpoint": ["http://10.1.2.3:8000/v1"]}, "10.1.2.3 is not this machine; --allow_remote true"),
        ({"endpoint": ["http://127.0.0.1:8000/v1"], "engine": "gguf"}, "leave it out with --endpoint"),
        ({"arm": "lora", "engine": "gguf"}, "name the arm with its format .* such as --arm lora_q8"),
        ({"arm": "lora_q4", "engine": "gguf"}, "no GGUF file; write it: .* --format gguf --quantize q4_k_m"),
    ],
)
def test_an_engine_that_cannot_answer_is_refused_before_anything_is_loaded(
    changes: dict, message: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message):
        generation.check(GenerateArguments(study_dir=str(tmp_path), **changes))


def test_a_gguf_file_of_an_earlier_training_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "lora" / "export" / "gguf-q8_0"
    folder.mkdir(parents=True)
    (folder / "lora-q8_0.gguf").touch()
    (folder / "export.json").write_text(json.dumps({"trained_on": "before"}))
    for trained, fits in (("before", True), ("after", False)):
        (tmp_path / "lora" / "train.json").write_text(json.dumps({"fingerprint": trained}))
        args = GenerateArguments(study_dir=str(tmp_path), arm="lora_q8", engine="gguf")
        if fits:
            generation.check(args)
        else:
            with pytest.raises(UserError, match="lora was trained again since; write it anew"):
                generation.check(args)
