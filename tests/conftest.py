"""Shared by the tests: no hub, few threads, a way to run a script as a user does, and a model small enough to train."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"
ROOT = Path(__file__).resolve().parent.parent
RECIPES = ROOT / "recipes"


def run_script(
    name: str, *arguments: object, launcher: tuple[str, ...] = (), timeout: int = 600
) -> subprocess.CompletedProcess[str]:
    """Run recipes/NAME from the repository's root; nothing is raised, the test looks at the exit status itself."""
    command = [*(launcher or (sys.executable,)), str(RECIPES / name), *map(str, arguments)]
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=timeout)


def read_all(data: Path | str | list[Any], **options: Any) -> tuple[list[Any], list[Any], int]:
    """Usable dialogues, rejected rows, and how many rows there were."""
    from medsft.arguments import DataArguments
    from medsft.dialogue import Dialogue
    from medsft.sources import parts_of, read_dialogues

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

    from medsft import model

    tokenizer = model.load_tokenizer(model.SMOLLM2)
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
def tiny_study(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """A study folder with the prepared sample, for the tiny model."""
    study = tmp_path_factory.mktemp("study") / "tiny"
    done = run_script("prepare_data.py", "--study_dir", study, "--model_name_or_path", tiny_model, "--max_rows", 120)
    assert done.returncode == 0, done.stderr
    return study
