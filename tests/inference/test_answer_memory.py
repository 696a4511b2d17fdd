"""What answers take of memory: by the arithmetic of known models, against what is free, before anything is loaded."""

import shutil
from pathlib import Path

import pytest
import torch
from bitsandbytes.nn import Linear4bit

from conftest import run_script
from medsft.arguments import GenerateArguments
from medsft.errors import DoesNotFit
from medsft.inference import answer_memory, generation
from medsft.inference.shards import Shard
from medsft.models import loading
from medsft.models.parameter_counts import known_config

MISTRAL = known_config("mistralai/Mistral-7B-Instruct-v0.2")
ALONE = Shard()
GB = 1e9


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """So many GB that are free on a GPU."""
    left = [0.0]
    monkeypatch.setattr(answer_memory, "free_bytes", lambda: (int(left[0] * GB), "GPU memory"))
    return left


def test_what_is_free_is_asked_anew_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the two questions the weights are read. With a GPU, torch's: what it keeps unused counts as free."""
    available = iter([8_000, 5_000])
    monkeypatch.setattr(answer_memory, "host_memory", lambda: (9_000, next(available)))
    assert [answer_memory.free_bytes() for _ in range(2)] == [(8_000, "host memory"), (5_000, "host memory")]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for name, value in {"mem_get_info": (700, 1_000), "memory_reserved": 200, "memory_allocated": 150}.items():
        monkeypatch.setattr(torch.cuda, name, lambda found=value: found)
    assert answer_memory.free_bytes() == (750, "GPU memory")


def test_an_answer_takes_its_keys_and_values_and_little_else() -> None:
    """131,072 bytes a token of Mistral-7B (2 x 32 layers x 8 heads x 128 x 2 bytes)."""
    kept = 131_072 * (1024 + 384)
    assert kept < answer_memory.answer_bytes(MISTRAL, 2, 1024, 384, 5) < 1.6 * kept
    assert answer_memory.answer_bytes(MISTRAL, 4, 1024, 384, 5) > 2 * kept
    alone, shared = (answer_memory.answer_bytes(MISTRAL, 2, 1024, 384, ways) for ways in (1, 5))
    assert shared < alone  # a prompt is read once for all of its answers


def test_the_batch_shrinks_to_what_fits_and_says_so(free: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    def fitting(gigabytes: float) -> int:
        free[0] = gigabytes
        return answer_memory.at_once(MISTRAL, "bfloat16", (1024, 384), 5, 32, ALONE)

    assert fitting(60) == 32 and not capsys.readouterr().out
    some = fitting(4)
    assert 5 <= some < 32
    assert f"batch_size {some} instead of 32: answers of 1408 tokens" in capsys.readouterr().out
    assert 4 * 0.9 * GB / (some + 1) < answer_memory.answer_bytes(MISTRAL, 2, 1024, 384, 5) <= 4 * 0.9 * GB / some
    with pytest.raises(
        DoesNotFit,
        match=r"one question do not fit: 5 of .* 1\.0 GB of GPU .* 90% of them used; .*--seeds",
    ):
        fitting(1)


def test_shares_of_a_job_cut_the_same_batches(free: list[float]) -> None:
    """Each cuts its own rows out of all batches: with another size on another machine rows would be lost."""
    free[0] = 4
    with pytest.raises(DoesNotFit, match=r"give all shares --batch_size \d+$") as refused:
        answer_memory.at_once(MISTRAL, "bfloat16", (1024, 384), 5, 32, Shard(share=1, shares=4))
    named = int(str(refused.value).split()[-1])
    assert answer_memory.at_once(MISTRAL, "bfloat16", (1024, 384), 5, named, Shard(share=1, shares=4)) == named


def test_weights_that_do_not_fit_are_refused_and_fit_in_nf4(free: list[float]) -> None:
    free[0] = 10
    with pytest.raises(DoesNotFit, match=r"weights take 14\.5 GB of GPU memory, 10\.0 are free; .*--quantization nf4"):
        answer_memory.check_weights(MISTRAL, "bfloat16", None)
    answer_memory.check_weights(MISTRAL, "bfloat16", "nf4")
    free[0] = 3
    with pytest.raises(DoesNotFit, match=r"weights take 4\.5 GB of GPU memory, 3\.0 are free"):
        answer_memory.check_weights(MISTRAL, "bfloat16", "nf4")


def test_nothing_is_loaded_where_the_weights_do_not_fit(
    random_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answer_memory, "free_bytes", lambda: (1_000_000, "host memory"))
    monkeypatch.setattr(generation.loading, "load_model", lambda *_: pytest.fail("it was loaded"))
    with pytest.raises(DoesNotFit, match="of host memory, 0.0 are free"):
        generation.load(GenerateArguments(study_dir=str(tmp_path), model_name_or_path=str(random_model)))


@pytest.mark.slow
def test_answers_are_the_same_in_smaller_batches(
    tiny_study: Path, random_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = generation_rows(tiny_study)
    args = GenerateArguments(
        study_dir=str(tmp_path), model_name_or_path=str(random_model), dtype="float32", max_new_tokens=8
    )
    answerer = generation.load(args)

    def texts() -> list[tuple[int, dict[str, str]]]:
        batches = [*generation.answers(answerer, rows, set(), args)]
        return [(len(batch), {row["id"]: row["prediction"] for row in batch}) for (batch,) in batches]

    (whole,) = texts()
    config, longest = answerer.network.config, max(row["prompt_tokens"] for row in rows)
    each = answer_memory.answer_bytes(config, 4, longest, 8, 1)
    monkeypatch.setattr(answer_memory, "free_bytes", lambda: (int(5.5 * each / answer_memory.USED), "host memory"))
    parts = texts()
    assert [size for size, _ in parts] == [5, 5, 2]
    assert {name: text for _, some in parts for name, text in some.items()} == whole[1]


def generation_rows(study: Path) -> list:
    from medsft.data.split_files import load_split

    return load_split(str(study), "test").to_list()[:12]


def test_weights_in_nf4_are_unpacked_once_where_there_is_room(tiny_model: Path, free: list[float]) -> None:
    def packed(network: torch.nn.Module) -> int:
        return sum(isinstance(module, Linear4bit) for module in network.modules())

    # as in training: otherwise bitsandbytes rounds the scales, where a processor has bf16 instructions
    network = loading.load_model(str(tiny_model), "bfloat16", loading.nf4("bfloat16")).train()
    ids, layers = torch.arange(48).reshape(2, 24), packed(network)
    with torch.inference_mode():
        before = network(input_ids=ids).logits
    network = loading.load_model(str(tiny_model), "bfloat16", loading.nf4("bfloat16")).eval()
    free[0] = 1e-4
    assert packed(answer_memory.unpacked(network)) == layers > 0
    free[0] = 1
    network = answer_memory.unpacked(network)
    assert packed(network) == 0
    assert {parameter.dtype for parameter in network.parameters()} == {torch.bfloat16}
    with torch.inference_mode():
        assert torch.equal(network(input_ids=ids).logits, before)


def test_an_arm_in_nf4_answers_from_unpacked_weights(tiny_model: Path, tmp_path: Path) -> None:
    args = GenerateArguments(str(tmp_path), "baseline_nf4", str(tiny_model), "bfloat16", quantization="nf4")
    answerer = generation.load(args)
    assert answerer.precision == "nf4 with bfloat16"
    assert not any(isinstance(module, Linear4bit) for module in answerer.network.modules())


@pytest.mark.slow
def test_unpacking_says_nothing_in_the_terminal(tiny_study: Path, tiny_model: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_study / "data", tmp_path / "data")
    words = ["--study_dir", tmp_path, "--arm", "baseline_nf4", "--quantization", "nf4", "--max_rows", 2]
    words += ["--model_name_or_path", tiny_model, "--max_new_tokens", 4, "--dtype", "bfloat16"]
    done = run_script("generate.py", *words)
    assert done.returncode == 0, done.stderr
    assert "baseline_nf4/generations.jsonl" in done.stdout
    assert "quantized" not in done.stdout + done.stderr
