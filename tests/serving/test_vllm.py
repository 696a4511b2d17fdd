"""Exports served by vLLM, merged and as an adapter: the recipe's tokens, transformers' answers and likelihood.

`make test-serving VLLM=1` brings vLLM for processors, in an environment of its own.
"""

import os
import shlex
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from answers import compare

from conftest import run_here, write_adapter_arm
from medsft.arguments import GenerateArguments
from medsft.data.split_files import load_split
from medsft.errors import UserError
from medsft.evaluation import likelihood
from medsft.files import read_json
from medsft.inference import generation, served
from medsft.models import embedded
from medsft.tokenization.chat_template import prompt_ids, stop_ids

VLLM = Path(os.environ.get("VLLM_ENVIRONMENT", ".venv/vllm")) / "bin" / "vllm"
pytestmark = [
    pytest.mark.serving,
    pytest.mark.skipif(not VLLM.is_file(), reason="vLLM: run by make test-serving VLLM=1"),
]
N, NEW = 16, 32  # patients, new tokens
STARTS = 420  # seconds that a server may take to be ready


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("served") / "study"
    done = run_here("prepare_data.py", "--study_dir", folder, "--max_rows", 120)
    assert done.returncode == 0, done.stderr
    write_adapter_arm(folder / "lora", embedded.SMOLLM2, seed=1, std=0.02)
    return folder


@contextmanager
def serving(study: Path, form: str) -> Iterator[str]:
    """vLLM with an export of this form in float32, by the line that the export gives; yields its address."""
    words = ("--study_dir", study, "--arm", "lora", "--format", form, "--dtype", "float32")
    done = run_here("export.py", *words)
    assert done.returncode == 0, done.stderr
    line = shlex.split(read_json(study / "lora" / "export" / form / "export.json")["commands"][-1])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    line[line.index("8000")], line[line.index("--dtype") + 1], line[0] = port, "float32", str(VLLM)
    environment = {**os.environ, "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"}
    environment["PATH"] = f"{VLLM.parent}:{environment['PATH']}"
    environment.pop("PYTHONPATH", None)
    log = study / f"{form}.log"
    with log.open("w") as out:
        server = subprocess.Popen(line, stdout=out, stderr=subprocess.STDOUT, env=environment)
    address = f"http://127.0.0.1:{port}/v1"
    try:
        for _ in range(STARTS):
            assert server.poll() is None, log.read_text()[-2000:]
            try:
                served._request(address + "/models")
                break
            except OSError:
                time.sleep(1)
        yield address
    finally:
        server.terminate()
        server.wait(60)


@pytest.mark.parametrize("form", ["vllm", "adapter"])
def test_vllm_answers_an_export_as_transformers_does(form: str, study: Path) -> None:
    args = partial(GenerateArguments, study_dir=str(study), arm="lora", max_new_tokens=NEW)
    transformers = generation.load(args(dtype="float32"))
    rows = load_split(str(study), "test").to_list()[:N]
    prompts = generation.encode([row["messages"][:-1] for row in rows], transformers.tokenizer)
    ours = generation.complete(transformers, prompts, NEW)
    with serving(study, form) as address:
        started = time.monotonic()
        answerer = generation.load(args(endpoint=[address]))  # tokens of dialogues are compared here
        assert answerer.engine == "vllm" and answerer.version
        theirs = generation.complete(answerer, prompts, NEW)
        seconds = time.monotonic() - started
        network: Any = transformers.network
        found = compare(network, prompts, ours, theirs)
        speed = sum(map(len, theirs)) / seconds
        print(f"\n{form}: {found.equal}/{found.n} equal, gaps {sorted(found.gaps)}, {speed:.0f} tokens a second")
        assert found.equal >= N - 2 and all(gap < 0.05 for gap in found.gaps)
        scored = [likelihood.last_answer_unmarked(transformers.tokenizer, row["messages"]) for row in rows[:3]]
        expected = likelihood.batch_nll(network, scored, transformers.tokenizer.pad_token_id)
        assert served.nll(answerer.network, scored) == pytest.approx(expected, rel=1e-3)  # type: ignore[arg-type]
        hello = [prompt_ids(transformers.tokenizer, [{"role": "user", "content": "Hi"}])]
        said = generation.complete(answerer, hello, 64)[0]
        assert said[-1] in stop_ids(transformers.tokenizer) and not {*said[:-1]} & stop_ids(transformers.tokenizer)
        with pytest.raises(UserError, match="no model 'other'; it serves"):
            served.connect([address], "other", transformers.tokenizer, 1)
