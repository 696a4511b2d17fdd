"""Exports answered by vLLM, in this process and by `vllm serve`: the recipe's tokens, transformers' answers, ends of
turn, typed control tokens, likelihoods, kills.

`make test-serving` makes vLLM's environment and runs this file in it. Each format's line of the table in
docs/serve_and_review.md is printed (-s).
"""

import gc
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from answers import NEW, TYPED, N, compare, in_float32, mean_divergence, options, write_study

from conftest import RECIPES, ROOT, run_here, run_script
from medsft.data.split_files import load_split
from medsft.errors import UserError
from medsft.evaluation import likelihood
from medsft.files import read_json, read_jsonl
from medsft.inference import generation, part_files, served, vllm_backend
from medsft.inference.shards import Shard
from medsft.models import embedded, loading
from medsft.serving.gguf_check import LIKELIEST
from medsft.tokenization.chat_template import prompt_ids, stop_ids
from medsft.tokenization.control_tokens import as_text

os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
pytestmark = [
    pytest.mark.serving,
    pytest.mark.skipif(not vllm_backend.installed(), reason="run by make test-serving, in vLLM's own environment"),
]
FORMATS = [("merged", "float32"), ("adapter", "float32")]
# Bounds: divergence in nats a token; how much less likely float32 may find an engine's first other token than its own,
# in nats; how many of the answers are equal at least.
DIVERGENCE, NEAR_TIE, LEAST_EQUAL = 1e-3, 0.01, 15


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_study(tmp_path_factory.mktemp("served") / "study")


@pytest.fixture(scope="module")
def rows(study: Path) -> list[Any]:
    return load_split(str(study), "test").to_list()[:N]


@pytest.fixture(scope="module")
def reference(study: Path, rows: list[Any]) -> tuple[generation.Answerer, list[list[int]], list[list[int]]]:
    return in_float32(study, rows)


def exported(study: Path, kind: str, dtype: str) -> Path:
    """The folder of this export, which is written once."""
    folder = study / "lora" / "export" / f"{kind}-{dtype}"
    if not folder.is_dir():
        words = ("--study_dir", study, "--arm", "lora", "--format", kind, "--dtype", dtype, "--output_dir", folder)
        done = run_here("export.py", *words, "--max_new_tokens", NEW)
        assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module", params=FORMATS, ids="-".join)
def arm(study: Path, request: pytest.FixtureRequest) -> Iterator[tuple[str, generation.Answerer]]:
    """Each format in vLLM, which also tells more of the likeliest tokens than it does by itself."""
    import vllm

    kind, dtype = request.param
    weights = study / "lora" / "adapter" if kind == "adapter" else exported(study, kind, dtype)
    with mock.patch.object(vllm, "LLM", partial(vllm.LLM, max_logprobs=LIKELIEST)):
        engine = vllm_backend.load(embedded.SMOLLM2, weights, dtype)
    tokenizer = loading.load_tokenizer(str(weights))
    yield kind, generation.Answerer(engine, tokenizer, embedded.SMOLLM2, dtype, "vllm", vllm_backend.version())
    engine.llm.llm_engine.engine_core.shutdown()
    del engine  # with the cache
    gc.collect()


def logarithms(found: dict[int, Any]) -> dict[int, float]:
    return {token: entry.logprob for token, entry in found.items()}


def test_vllm_answers_as_transformers_within_the_bound_of_its_format(
    arm: tuple[str, generation.Answerer], rows: list[Any], reference: Any
) -> None:
    from vllm import SamplingParams

    transformers, prompts, ours = reference
    kind, answerer = arm
    engine: Any = answerer.network
    dtype = answerer.precision
    theirs = generation.complete(answerer, prompts, NEW)
    found = compare(transformers.network, prompts, ours, theirs)

    def next_tokens(ids: list[int], start: int) -> list[dict[int, float]]:
        many = {"logprobs": LIKELIEST, "prompt_logprobs": LIKELIEST}
        asked = SamplingParams(max_tokens=1, temperature=0.0, detokenize=False, **many)
        prompt = {"prompt_token_ids": ids}
        (output,) = engine.llm.generate([prompt], asked, lora_request=engine.adapter, use_tqdm=False)
        return [logarithms(at) for at in [*output.prompt_logprobs[start:], output.outputs[0].logprobs[0]]]

    divergence = mean_divergence(transformers, next_tokens)
    gaps = ", ".join(f"{gap:.3f}" for gap in sorted(found.gaps))
    print(f"\nvLLM {answerer.version}, {kind} {dtype}: {found.equal}/{N} equal, {divergence:.1e} nats, gaps {gaps}")
    assert found.equal >= LEAST_EQUAL
    assert all(gap <= NEAR_TIE for gap in found.gaps)
    assert divergence <= DIVERGENCE
    # vLLM reads the ids as they are, so no second BOS; an answer that ends does so by its end of turn, once
    hello = prompt_ids(transformers.tokenizer, [{"role": "user", "content": "Hi"}])
    stops = stop_ids(transformers.tokenizer)
    asked = SamplingParams(max_tokens=64, temperature=0.0, stop_token_ids=sorted(stops))
    prompt = {"prompt_token_ids": hello}
    (output,) = engine.llm.generate([prompt], asked, lora_request=engine.adapter, use_tqdm=False)
    assert output.prompt_token_ids == hello
    (said,) = generation.complete(answerer, [hello], 64)
    assert said == [*output.outputs[0].token_ids] and said[-1] in stops and not {*said[:-1]} & stops
    # the likelihood of the doctors' answers
    scored = [likelihood.last_answer_unmarked(transformers.tokenizer, row["messages"]) for row in rows[:4]]
    expected = likelihood.batch_nll(transformers.network, scored, transformers.tokenizer.pad_token_id)
    for one, other, row in zip(vllm_backend.nll(engine, scored), expected, scored, strict=True):
        assert abs(one - other) / len(row.positions) <= 1e-3


@pytest.mark.parametrize("arm", [("adapter", "float32")], indirect=True, ids="-".join)
def test_draws_are_each_rows_own_whatever_process_makes_them(
    study: Path, arm: tuple[str, generation.Answerer], rows: list[Any], reference: Any
) -> None:
    transformers, prompts, ours = reference
    args, drawn, answerer = options(study, "lora"), generation.Sampling(1.0, 0.9, 7), arm[1]

    def texts(shard: Shard) -> dict[Any, str]:
        found = [*generation.answers(answerer, rows, set(), args, [drawn], shard)]
        return {row["id"]: row["prediction"] for (batch,) in found for row in batch}

    whole = texts(Shard())
    assert len(whole) == N and texts(Shard()) == whole
    assert texts(Shard(0, 2)) | texts(Shard(1, 2)) == whole
    seeds = [generation.complete(answerer, [prompts[0]], NEW, drawn._replace(seed=seed))[0] for seed in range(4)]
    assert len({*map(tuple, seeds)}) == 4
    beside = generation.complete(answerer, [prompts[1], prompts[0]], NEW, drawn._replace(seed=3))
    assert beside[1] == seeds[3]  # a question's draw is its own, whatever is asked beside it
    penalised = generation.Sampling(0.0, 1.0, 0, 1.3)
    expected = generation.complete(transformers, prompts[:4], 8, penalised)
    assert generation.complete(answerer, prompts[:4], 8, penalised) == expected != [ids[:8] for ids in ours[:4]]
    longest = max(map(len, prompts))
    with pytest.raises(UserError, match="vLLM's cache here holds dialogues of 8192"):
        [*generation.answers(answerer, rows, set(), options(study, "lora", max_new_tokens=8193 - longest))]


def test_vllm_tells_nobody() -> None:
    from vllm.usage.usage_lib import is_usage_stats_enabled

    assert not is_usage_stats_enabled()


# ---- generate.py ----------------------------------------------------------------------------------------------------

ASKED = ("--max_new_tokens", 16, "--dtype", "float32", "--likelihood_rows", 4, "--memorization_rows", 2)


def copied(study: Path, folder: Path) -> Path:
    """The same study without answers."""
    for part in ("data", "lora/adapter", "lora/train.json"):
        (folder / part).parent.mkdir(parents=True, exist_ok=True)
        (folder / part).symlink_to(study / part)
    return folder


def written(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if not path.is_symlink()}


def test_generate_writes_the_same_files_and_goes_on_after_a_kill(study: Path, tmp_path: Path) -> None:
    words = (*ASKED, "--max_rows", 20, "--arm", "lora")
    by_vllm = (*words, "--engine", "vllm", "--batch_size", 1)  # which is given 16 rows and then 4
    ours, theirs, broken = (copied(study, tmp_path / name) for name in ("transformers", "whole", "killed"))
    for folder, asked in ((ours, (*words, "--engine", "transformers")), (theirs, by_vllm)):
        done = run_here("generate.py", "--study_dir", folder, *asked)
        assert done.returncode == 0, done.stderr
    files = [written(folder / "lora") for folder in (ours, theirs)]
    assert files[0] == files[1] == {"generation.json", "generations.jsonl", "likelihood.jsonl", "memorization.jsonl"}
    record = read_json(theirs / "lora" / "generation.json")
    assert (record["engine"], record["precision"]) == ("vllm", "float32")
    assert record["engine_version"] == vllm_backend.version()
    one, other = (read_jsonl(folder / "lora" / "generations.jsonl") for folder in (ours, theirs))
    assert [[*row] for row in one] == [[*row] for row in other] and [r["id"] for r in one] == [r["id"] for r in other]
    equal = sum(a == b for a, b in zip(one, other, strict=True))
    print(f"\ngenerate.py: {equal}/{len(one)} rows equal to transformers'")
    assert equal >= 19
    one, other = (read_jsonl(folder / "lora" / "likelihood.jsonl") for folder in (ours, theirs))
    assert [row["nll"] for row in one] == pytest.approx([row["nll"] for row in other], rel=1e-4)

    command = [sys.executable, str(RECIPES / "generate.py"), "--study_dir", str(broken), *map(str, by_vllm)]
    process = subprocess.Popen(command, cwd=ROOT, start_new_session=True)
    part: list[Path] = []
    while not any(path.stat().st_size for path in part):
        assert process.poll() is None
        time.sleep(0.01)
        part = [*(broken / "lora").glob("*.partial.jsonl")]
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert part_files.rows_of(part[0]) and not (broken / "lora" / "generation.json").exists()
    assert alive(process.pid) == []  # nothing keeps the model in memory
    again = run_script("generate.py", "--study_dir", broken, *by_vllm, timeout=900)
    assert again.returncode == 0, again.stderr
    whole = (theirs / "lora" / "generations.jsonl").read_text()
    assert (broken / "lora" / "generations.jsonl").read_text() == whole
    done = run_here("generate.py", "--study_dir", broken, *by_vllm)
    assert "already done" in done.stdout


def alive(session: int) -> list[int]:
    """Processes of a session that still run."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, of = stat.read_text().rpartition(")")[2].split()[:4]
        except OSError:  # it has ended meanwhile
            continue
        if int(of) == session and state != "Z":
            found.append(int(stat.parent.name))
    return found


# ---- vllm serve -----------------------------------------------------------------------------------------------------


@contextmanager
def serving(line: str, folder: Path, *more: str) -> Iterator[str]:
    """The address of a server started by a line of an export."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [*shlex.split(line), "--port", str(port), "--max-logprobs", str(LIKELIEST), *more]
    words += ["--kv-cache-memory-bytes", "1G", "--enforce-eager"]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with (folder / "server.log").open("w") as log:
        process = subprocess.Popen(words, stdout=log, stderr=log, env={**os.environ, "PATH": path})
        try:
            address = f"http://127.0.0.1:{port}"
            wait_for(process, address, folder / "server.log")
            yield address
        finally:
            process.terminate()
            process.wait(timeout=60)


def wait_for(process: "subprocess.Popen[bytes]", address: str, log: Path) -> None:
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and process.poll() is None:
        try:
            urllib.request.urlopen(f"{address}/health", timeout=5).close()
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.3)
    raise AssertionError(log.read_text()[-3000:])


# Sampling with a penalty, as Qwen 2.5 comes with in its generation_config.json: vLLM takes it for what is not said
DEFAULTS = {"temperature": 0.9, "repetition_penalty": 1.5, "top_p": 0.8}


def test_the_adapter_is_served_by_the_line_of_its_export_and_defaults_change_no_answer(
    study: Path, rows: list[Any], reference: Any, tmp_path: Path
) -> None:
    transformers, prompts, ours = reference
    (line,) = read_json(exported(study, "adapter", "float32") / "export.json")["commands"]
    assert "--enable-lora" in line
    longer = ("--max-model-len", "512")  # some rows here are longer than those that the arm was trained on
    flags = ("--dtype", "float32", *longer, "--override-generation-config", json.dumps(DEFAULTS))
    with serving(line, tmp_path, *flags) as address:
        server = served.connect([f"{address}/v1"], "lora", transformers.tokenizer, 4)
        assert (server.kind, server.version) == (served.VLLM, vllm_backend.version())
        folder = copied(study, tmp_path / "study")
        words = ("--max_rows", N, "--max_new_tokens", NEW, "--likelihood_rows", 4, "--memorization_rows", 2)
        done = run_here("generate.py", "--study_dir", folder, "--arm", "lora", "--endpoint", f"{address}/v1", *words)
        assert done.returncode == 0, done.stderr
        found = same_answers(server, reference, "vllm serve, adapter float32")
        assert found >= LEAST_EQUAL
        record = read_json(folder / "lora" / "generation.json")
        assert (record["engine"], record["precision"]) == ("vllm", "as served")
        assert record["engine_version"] == vllm_backend.version()
        answers = read_jsonl(folder / "lora" / "generations.jsonl")
        assert [row["id"] for row in answers] == [row["id"] for row in rows]
        assert [row["new_tokens"] for row in answers] == [len(ids) for ids in ours]
        likely = read_jsonl(folder / "lora" / "likelihood.jsonl")
        ids = [likelihood.last_answer_unmarked(transformers.tokenizer, row["messages"]) for row in rows[:4]]
        expected = likelihood.batch_nll(transformers.network, ids, transformers.tokenizer.pad_token_id)
        assert [row["nll"] for row in likely] == pytest.approx(expected, rel=1e-4)
        # drawn by seed, and with a penalty
        stops, drawn = stop_ids(transformers.tokenizer), generation.Sampling(1.0, 0.9, 7)
        first, second = (served.complete(server, prompts[:2], 8, stops, drawn) for _ in range(2))
        assert first == second != [ids[:8] for ids in ours[:2]]
        penalised = generation.Sampling(0.0, 1.0, 0, 1.3)
        expected_ids = generation.complete(transformers, prompts[:2], 8, penalised)
        assert served.complete(server, prompts[:2], 8, stops, penalised) == expected_ids
        body = {"model": "lora", "prompt": prompts[0], "max_tokens": NEW, "return_token_ids": True}
        plain = served.post(server, "/v1/completions", {**body, "temperature": 0.0})["choices"][0]["token_ids"]
        assert plain != ours[0]  # the temperature alone would be enough for OpenAI's own server
        with pytest.raises(UserError, match="no model 'qlora'; it serves .*lora"):
            served.connect([f"{address}/v1"], "qlora", transformers.tokenizer, 4)
        with pytest.raises(UserError, match="refused"):
            served.complete(server, [prompts[0] * 20], 8, stops, None)


def same_answers(server: served.Engine, reference: Any, name: str) -> int:
    """How many answers are equal; each other one within the bound, as are the distributions and the prompts."""
    transformers, prompts, ours = reference
    stops = stop_ids(transformers.tokenizer)
    found = compare(transformers.network, prompts, ours, served.complete(server, prompts, NEW, stops, None))

    def next_tokens(ids: list[int], start: int) -> list[dict[int, float]]:
        body = {"model": server.model, "prompt": ids, "max_tokens": 1, "temperature": 0.0, "return_token_ids": True}
        body |= {"prompt_logprobs": LIKELIEST}
        last = [*ids, min(stops)]  # one more, to see what follows the end
        choice = served.post(server, "/v1/completions", {**body, "prompt": last})["choices"][0]
        assert choice["prompt_token_ids"] == last  # as they are, without a BOS
        found = choice["prompt_logprobs"][start:]
        return [{int(token): float(entry["logprob"]) for token, entry in at.items()} for at in found]

    divergence = mean_divergence(transformers, next_tokens)
    gaps = ", ".join(f"{gap:.3f}" for gap in sorted(found.gaps))
    print(f"\n{name}: {found.equal}/{N} equal, {divergence:.1e} nats, gaps {gaps}")
    assert all(gap <= NEAR_TIE for gap in found.gaps) and divergence <= DIVERGENCE
    # vLLM's own rendering of the template, for whoever sends messages: the same tokens
    dialogue: Any = [{"role": "user", "content": TYPED}]
    expected = prompt_ids(transformers.tokenizer, dialogue)
    assert rendered(server, as_text(transformers.tokenizer, dialogue)) == expected
    assert rendered(server, dialogue) != expected  # were the control tokens not broken
    return found.equal


def rendered(server: served.Engine, messages: Any) -> list[int]:
    body = {"model": server.model, "messages": messages, "add_generation_prompt": True}
    return [*served.post(server, "/tokenize", body)["tokens"]]
