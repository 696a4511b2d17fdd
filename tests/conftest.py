"""Shared by the tests: no hub, few threads, a way to run a script as a user does, and a model small enough to train."""

import contextlib
import io
import json
import os
import runpy
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import settings

import medsft.serving  # noqa: F401 - as it is imported it switches gradio's telemetry off, which no test may end

# The same examples each time: no test turns red by chance. New ones are drawn with --hypothesis-profile=default
settings.register_profile("repeatable", derandomize=True)
settings.load_profile("repeatable")

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TORCHDYNAMO_DISABLE"] = "1"  # two seconds less of importing, as the scripts have it without a GPU
ROOT = Path(__file__).resolve().parent.parent
RECIPES = ROOT / "recipes"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with the most slow tests first: with two files at a time none is left to end alone."""
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])


@pytest.fixture(autouse=True)
def _same_environment() -> Iterator[None]:
    """What a test, or the code it called, changes in the environment ends with it: the next test of the process may
    be any (a hidden GPU once hid the stand-in of another file's test).
    """
    with mock.patch.dict(os.environ):
        yield


def run_script(
    name: str, *arguments: object, launcher: tuple[str, ...] = (), timeout: int = 600
) -> subprocess.CompletedProcess[str]:
    """Run recipes/NAME from the repository's root; nothing is raised, the test looks at the exit status itself."""
    command = [*(launcher or (sys.executable,)), str(RECIPES / name), *map(str, arguments)]
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=timeout)


def make(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """make as typed in a shell: `make test` above it would add its own variables."""
    typed = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    return subprocess.run(["make", *words], cwd=ROOT, env={**typed, **environment}, capture_output=True, text=True)


def run_here(name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run recipes/NAME inside this process: the same script and exit status, without ten seconds of imports."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    command = [str(RECIPES / name), *map(str, arguments)]
    called = mock.patch.object(sys, "argv", command)
    with _as_left(), called, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            runpy.run_path(command[0], run_name="__main__")
        except SystemExit as end:
            code = int(end.code or 0)
    return subprocess.CompletedProcess(command, code, out.getvalue(), err.getvalue())


@contextlib.contextmanager
def _as_left() -> Iterator[None]:
    """What a script changes in its process is put back: environment, signal handlers, accelerate's one state."""
    from accelerate.state import AcceleratorState, GradientState, PartialState

    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    with mock.patch.dict(os.environ), contextlib.chdir(ROOT):
        try:
            yield
        finally:
            AcceleratorState._reset_state(reset_partial_state=True)
            PartialState._reset_state()
            GradientState._reset_state()
            for number, handler in handlers.items():
                signal.signal(number, handler)


def read_all(data: Path | str | list[Any], **options: Any) -> tuple[list[Any], list[Any], int]:
    """Usable dialogues, rejected rows, and how many rows there were."""
    from medsft.arguments import DataArguments
    from medsft.data.reading.dialogue import Dialogue
    from medsft.data.reading.sources import parts_of, read_dialogues

    names = [str(name) for name in data] if isinstance(data, list) else [str(data)]
    args = DataArguments(data=names, **options)
    rows = list(read_dialogues(args, parts_of(args)))
    dialogues = [row for row in rows if isinstance(row, Dialogue)]
    return dialogues, [row for row in rows if not isinstance(row, Dialogue)], len(rows)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A randomly initialised Llama of 3.3 million weights with the embedded model's tokenizer, as a local folder."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from medsft.models import embedded, loading

    tokenizer = loading.load_tokenizer(embedded.SMOLLM2)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    folder = tmp_path_factory.mktemp("tiny") / "model"
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def random_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama that says different things to different patients: wide weights, and no tied embedding to echo."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from medsft.models import embedded, loading

    tokenizer = loading.load_tokenizer(embedded.SMOLLM2)
    torch.manual_seed(0)
    # bitsandbytes repacks NF4 weights on processors with AVX512-BF16, and wants rows of whole blocks of 64
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    ends = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    config = LlamaConfig(vocab_size=len(tokenizer), initializer_range=0.15, tie_word_embeddings=False, **sizes, **ends)
    folder = tmp_path_factory.mktemp("random") / "model"
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_study(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """A study folder with the prepared sample, for the tiny model."""
    study = tmp_path_factory.mktemp("study") / "tiny"
    done = run_script("prepare_data.py", "--study_dir", study, "--model_name_or_path", tiny_model, "--max_rows", 120)
    assert done.returncode == 0, done.stderr
    return study


def write_adapter_arm(arm: Path, base: Path | str, seed: int, std: float = 5.0) -> None:
    """A trained arm without the training: an adapter drawn at random, large enough to change what the model says."""
    import torch
    from peft import LoraConfig, get_peft_model

    from medsft.models import loading

    torch.manual_seed(seed)
    network = loading.load_model(str(base), "float32")
    network = get_peft_model(network, LoraConfig(r=4, target_modules=["o_proj", "down_proj"]))
    for name, parameter in network.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=std)
    network.save_pretrained(arm / "adapter")
    loading.load_tokenizer(str(base)).save_pretrained(arm / "adapter")
    record = {"arm": arm.name, "base_model": str(base), "base_revision": loading.revision(str(base))}
    record |= {"total_parameters": 3_322_432, "trainable_parameters": 4_096, "trainable_percent": 0.12, "steps": 1}
    record |= {"tokens_seen": 10, "answer_tokens_seen": 5, "wall_seconds": 1.0, "seed": 42, "quantization": None}
    record |= {"settings": {"max_length": 128}, "versions": {"torch": "2.13.0"}, "fingerprint": "f" * 16}
    (arm / "train.json").write_text(json.dumps(record))
