"""Exports of an adapter that really changes the answers: the same answers after the merge, whole folders, refusals."""

import json
import os
import re
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

import export
from conftest import RECIPES, ROOT, write_adapter_arm
from medsft.errors import UserError
from medsft.files import write_jsonl
from medsft.inference import vllm_backend
from medsft.models import loading
from medsft.serving import merge

ASKED = [{"role": "user", "content": "I have had a cough for two weeks."}]


@pytest.fixture(scope="module")
def study(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study with one LoRA arm whose adapter is drawn at random, large enough to change what the model says."""
    folder = tmp_path_factory.mktemp("study") / "tiny"
    write_adapter_arm(folder / "lora", tiny_model, seed=1)
    return folder


def exported(monkeypatch: pytest.MonkeyPatch, study: Path, output: Path, *words: str) -> dict[str, Any]:
    monkeypatch.setattr(sys, "argv", ["export.py", "--study_dir", str(study), "--output_dir", str(output), *words])
    export.main()
    return json.loads((output / "export.json").read_text())


def greedy(network: Any, tokenizer: Any, **limits: Any) -> list[int]:
    inputs = tokenizer.apply_chat_template(ASKED, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    return network.generate(**inputs, **limits)[0].tolist()


@pytest.mark.slow
def test_the_merged_model_answers_as_base_and_adapter_do(
    study: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    record = exported(monkeypatch, study, tmp_path / "out", "--dtype", "float32", "--max_new_tokens", "20")
    assert record["divergence"] <= 1e-5 < 0.01 < record["moved_from_base"]

    base = loading.load_model(str(tiny_model), "float32")
    tokenizer = loading.load_tokenizer(str(tiny_model))
    untrained = greedy(base, tokenizer, max_new_tokens=20, do_sample=False)
    adapted = greedy(
        PeftModel.from_pretrained(base, str(study / "lora" / "adapter")), tokenizer, max_new_tokens=20, do_sample=False
    )
    # nothing but the folder: its own template, limits and stops
    served = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype="float32")
    answer = greedy(served, AutoTokenizer.from_pretrained(tmp_path / "out"))
    assert answer == adapted != untrained


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["merged", "adapter"])
def test_the_cards_snippet_loads_prompts_and_stops(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    exported(monkeypatch, study, tmp_path / kind, "--format", kind, "--dtype", "float32", "--max_new_tokens", "12")
    card = (tmp_path / kind / "README.md").read_text(encoding="utf-8")
    assert f"library_name: {'peft' if kind == 'adapter' else 'transformers'}" in card
    (snippet,) = re.findall(r"```python\n(.*?)```", card, flags=re.S)
    monkeypatch.chdir(tmp_path / kind)
    capsys.readouterr()
    names: dict[str, Any] = {}
    exec(snippet, names)
    said = capsys.readouterr().out.strip()
    assert said and "<|im_" not in said
    assert names["answer"].shape[1] <= names["inputs"]["input_ids"].shape[1] + 12


@pytest.mark.slow
def test_the_export_says_what_it_checked_and_no_more(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tokenizer = loading.load_tokenizer(str(study / "lora" / "adapter"))
    row: dict[str, Any] = {"group": "g", "source": "s", "prompt": "", "messages": ASKED, "reference": "Rest."}
    row |= {"stopped": True, "new_tokens": 6}
    record = exported(monkeypatch, study, tmp_path / "first", "--dtype", "float32", "--max_new_tokens", "6")
    assert "same_wording" not in record and "same answers" not in capsys.readouterr().out
    served = loading.load_model(str(tmp_path / "first"), "float32")
    length = len(tokenizer.apply_chat_template(ASKED, add_generation_prompt=True, return_dict=True)["input_ids"])
    true = tokenizer.decode(greedy(served, tokenizer, max_new_tokens=6)[length:], skip_special_tokens=True)
    answers = [{**row, "id": 1, "prediction": true}, {**row, "id": 2, "prediction": "Something else."}]
    write_jsonl(study / "lora" / "generations.jsonl", answers)
    try:
        record = exported(monkeypatch, study, tmp_path / "second", "--dtype", "float32")
    finally:
        (study / "lora" / "generations.jsonl").unlink()
    assert (record["same_wording"], record["compared_answers"]) == (1, 2)
    out = capsys.readouterr().out
    assert "checked: next-token distributions within" in out
    assert "may differ in wording by float32 rounding: 1 of 2 stored answers begin with the same 32 tokens here" in out


@pytest.mark.slow
def test_every_export_stops_and_carries_template_tokenizer_and_card(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind in export.FORMATS:
        exported(monkeypatch, study, tmp_path / kind, "--format", kind)
        names = {path.name for path in (tmp_path / kind).iterdir()}
        assert {"tokenizer.json", "chat_template.jinja", "generation_config.json", "README.md", "export.json"} <= names
        weights = {"adapter": "adapter_model.safetensors", "gguf": "lora-f16.gguf"}.get(kind, "model.safetensors")
        assert weights in names and not [n for n in names if n.endswith((".bin", ".pt", ".pkl"))]
        stops = json.loads((tmp_path / kind / "generation_config.json").read_text())["eos_token_id"]
        tokenizer = loading.load_tokenizer(str(tmp_path / kind))
        assert "<|im_end|>" in tokenizer.convert_ids_to_tokens(stops)
    assert {p.name for p in tmp_path.iterdir()} == set(export.FORMATS)  # no temporary folder stays


@pytest.mark.slow
def test_serving_commands_name_the_folder_the_stop_and_loopback(
    study: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind in ("ollama", "vllm", "adapter"):
        exported(monkeypatch, study, tmp_path / kind, "--format", kind)
    modelfile = (tmp_path / "ollama" / "Modelfile").read_text().splitlines()
    assert modelfile[0] == "FROM ." and 'PARAMETER stop "<|im_end|>"' in modelfile
    assert "PARAMETER num_ctx 384" in modelfile  # 128 trained on and 256 of answer
    serve = (tmp_path / "vllm" / "serve.sh").read_text()
    assert f"vllm serve {tmp_path}/vllm --host 127.0.0.1" in serve and "--served-model-name lora" in serve
    (line,) = json.loads((tmp_path / "adapter" / "export.json").read_text())["commands"]
    assert "--max-lora-rank 8" in line  # the smallest that holds a rank of 4
    assert f"vllm serve {tiny_model} " in line and f"--lora-modules lora={tmp_path}/adapter" in line


@pytest.mark.parametrize(("rank", "served"), [(4, 8), (16, 16), (24, 32), (64, 64), (257, 320)])
def test_vllm_is_given_a_rank_that_it_has_kernels_for(rank: int, served: int, tmp_path: Path) -> None:
    config = tmp_path / "adapter_config.json"
    config.write_text(json.dumps({"r": rank}))
    assert vllm_backend.lora_rank(config) == served
    config.write_text(json.dumps({"r": 513}))
    with pytest.raises(UserError, match="--format merged"):
        vllm_backend.lora_rank(config)


def test_a_merge_that_lost_the_adapter_is_caught(study: Path, tiny_model: Path) -> None:
    _, before, moved = merge.merge(str(tiny_model), study / "lora" / "adapter", "float32")
    for dtype in ("float32", "bfloat16"):
        with pytest.raises(UserError, match="merged weights answer differently"):
            merge.check_merge(tiny_model, before, dtype, moved)


def test_a_small_adapter_cannot_hide_behind_the_tolerance() -> None:
    """Losing an adapter that moved the base by less than bfloat16's tolerance is still caught."""
    import torch

    logits = torch.randn(5, 11, generator=torch.Generator().manual_seed(0))
    other = logits + 0.05 * torch.randn(5, 11, generator=torch.Generator().manual_seed(1))
    p, q = logits.double().softmax(-1), other.double().softmax(-1)
    assert merge.divergence(logits, other) == pytest.approx(float((p * (p / q).log()).sum(-1).mean()), rel=1e-3)
    assert 0 < merge.divergence(logits, other) < merge.TOLERANCE["bfloat16"]


def test_another_revision_of_the_base_is_refused_and_nothing_is_left(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = tmp_path / "study" / "lora"
    changed.mkdir(parents=True)
    (changed / "adapter").symlink_to(study / "lora" / "adapter")
    record = json.loads((study / "lora" / "train.json").read_text())
    (changed / "train.json").write_text(json.dumps(record | {"base_revision": "0" * 16}))
    with pytest.raises(UserError, match=f"is now revision {record['base_revision']}, but the arm was trained on 000"):
        exported(monkeypatch, tmp_path / "study", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--arm", "baseline"), "untrained model"),
        (("--arm", "nobody"), "no arm 'nobody' here; there are lora"),
        (("--format", "onnx"), "choose one of merged, adapter"),
        (("--dtype", "nf4"), "4-bit weights cannot take an adapter"),
        (("--format", "ollama", "--ollama_template", "nowhere.tmpl"), "nowhere.tmpl: no such file"),
    ],
)
def test_what_cannot_be_exported_is_refused_with_a_reason(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        exported(monkeypatch, study, tmp_path / "out", *words)
    assert not (tmp_path / "out").exists()


def test_a_full_arm_needs_no_merge(study: Path, tiny_model: Path, tmp_path: Path, monkeypatch: Any) -> None:
    arm = tmp_path / "study" / "full"
    arm.mkdir(parents=True)
    (arm / "model").symlink_to(tiny_model)
    record = json.loads((study / "lora" / "train.json").read_text())
    (arm / "train.json").write_text(json.dumps(record | {"arm": "full", "trainable_percent": 100.0}))
    with pytest.raises(UserError, match="has no adapter; use --format merged"):
        exported(monkeypatch, tmp_path / "study", tmp_path / "out", "--arm", "full", "--format", "adapter")
    record = exported(monkeypatch, tmp_path / "study", tmp_path / "out", "--arm", "full")
    assert "divergence" not in record
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == (tiny_model / "model.safetensors").read_bytes()


class Hub(BaseHTTPRequestHandler):
    """Answers as the hub does for a gated repository, and for one that is not there."""

    def do_GET(self) -> None:  # noqa: N802 - the name http.server asks for
        gated = "gated" in self.path
        self.send_response(403 if gated else 404)
        self.send_header("X-Error-Code", "GatedRepo" if gated else "RepoNotFound")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.mark.slow
@pytest.mark.parametrize(
    ("base", "message"),
    [("some/gated-model", "is gated: accept its terms at"), ("some/missing-model", "is not on the hub, or private")],
)
def test_a_gated_or_missing_base_is_refused_with_the_way_in(
    study: Path, tmp_path: Path, base: str, message: str
) -> None:
    arm = tmp_path / "study" / "lora"
    arm.mkdir(parents=True)
    (arm / "adapter").symlink_to(study / "lora" / "adapter")
    record = json.loads((study / "lora" / "train.json").read_text())
    (arm / "train.json").write_text(json.dumps(record | {"base_model": base, "base_revision": None}))
    hub = HTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=hub.serve_forever, daemon=True).start()
    environment = {**os.environ, "HF_ENDPOINT": f"http://127.0.0.1:{hub.server_port}", "HF_HUB_OFFLINE": "0"}
    environment |= {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1", "HF_HOME": str(tmp_path / "home")}
    command = [sys.executable, str(RECIPES / "export.py"), "--study_dir", str(tmp_path / "study")]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    hub.shutdown()
    assert done.returncode == 2, done.stderr
    assert message in done.stderr and "Traceback" not in done.stderr
