"""GGUF exports answered by llama.cpp: the recipe's tokens, transformers' answers, ends of turn, typed control tokens.

`make test-serving` brings llama.cpp. Each format's line of the table in docs/serve_and_review.md is printed (-s).
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import test_go_templates
import torch
from answers import NEW, TYPED, N, compare, in_float32, options, write_study

from conftest import run_here
from medsft.data.split_files import load_split
from medsft.errors import UserError
from medsft.files import read_json, read_jsonl
from medsft.inference import adapter_pool, generation, llama_cpp, served, served_arms
from medsft.models import embedded, loading
from medsft.serving import gguf_check, gguf_file
from medsft.tokenization.answer_text import answer_text
from medsft.tokenization.chat_template import prompt_ids, stop_ids
from medsft.tokenization.control_tokens import as_text
from real_vocabularies import llama_3

pytestmark = [pytest.mark.serving, pytest.mark.skipif(not llama_cpp.available(), reason="run by make test-serving")]
# How much less likely float32 may find an engine's first other token than its own, in nats: near ties only.
NEAR_TIE = {"f32": 0.01, "f16": 0.05, "q8_0": 0.6, "q4_k_m": 5.0}
LEAST_EQUAL = {"f32": 15, "f16": 14, "q8_0": 3, "q4_k_m": 0}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_study(tmp_path_factory.mktemp("served") / "study")


@pytest.fixture(scope="module")
def rows(study: Path) -> list[Any]:
    return load_split(str(study), "test").to_list()[:N]


@pytest.fixture(scope="module")
def reference(study: Path, rows: list[Any]) -> tuple[generation.Answerer, list[list[int]], list[list[int]]]:
    return in_float32(study, rows)


def exported(study: Path, kind: str) -> dict[str, Any]:
    """The record of the export of this kind, which is written once."""
    path = study / "lora" / "export" / f"gguf-{kind}" / "export.json"
    if not path.is_file():
        words = ("--study_dir", study, "--arm", "lora", "--format", "gguf", "--quantize", kind, "--dtype", "float32")
        done = run_here("export.py", *words)
        assert done.returncode == 0, done.stderr
    record: dict[str, Any] = read_json(path)
    return record


@pytest.mark.parametrize(("short", "kind"), [("f32", "f32"), ("f16", "f16"), ("q8", "q8_0"), ("q4", "q4_k_m")])
def test_a_file_answers_as_transformers_within_the_bound_of_its_format(
    short: str, kind: str, study: Path, reference: Any
) -> None:
    record = exported(study, kind)
    assert record["divergence_of_the_file"] <= record["bound"] == gguf_check.BOUNDS[kind]
    transformers, prompts, ours = reference
    answerer = generation.load(options(study, f"lora_{short}", engine="gguf"))
    assert (answerer.engine, answerer.precision) == ("llama.cpp", kind)
    theirs = generation.complete(answerer, prompts, NEW)
    found = compare(transformers.network, prompts, ours, theirs)
    gaps = ", ".join(f"{gap:.3f}" for gap in sorted(found.gaps))
    print(f"\n{kind}: {found.equal}/{found.n} equal, divergence {record['divergence_of_the_file']:.1e}, gaps {gaps}")
    assert found.equal >= LEAST_EQUAL[kind]
    assert all(gap <= NEAR_TIE[kind] for gap in found.gaps)
    # an answer that ends, by its end of turn, which is the last token
    hello = [prompt_ids(transformers.tokenizer, [{"role": "user", "content": "Hi"}])]
    said = generation.complete(answerer, hello, 64)[0]
    assert said[-1] in stop_ids(transformers.tokenizer) and not {*said[:-1]} & stop_ids(transformers.tokenizer)
    # llama.cpp's own rendering of the template, for whoever serves the file: the same tokens, so no second BOS
    server: Any = answerer.network
    dialogue: Any = [{"role": "user", "content": TYPED}]
    safe = as_text(transformers.tokenizer, dialogue)
    assert gguf_check.chat_ids(server, safe) == prompt_ids(transformers.tokenizer, dialogue)
    assert gguf_check.chat_ids(server, dialogue) != prompt_ids(transformers.tokenizer, dialogue)  # were it not broken


def test_generate_scores_a_quantized_export_as_one_more_arm(study: Path, rows: list[Any]) -> None:
    exported(study, "q8_0")
    words = ("--study_dir", study, "--max_rows", 4, "--max_new_tokens", 8, "--memorization_rows", 2)
    done = run_here("generate.py", *words, "--arm", "lora_q8", "--engine", "gguf", "--likelihood_rows", 2)
    assert done.returncode == 0, done.stderr
    assert "likelihood of the doctors' answers is left out: llama.cpp does not give it" in done.stdout
    record = read_json(study / "lora_q8" / "generation.json")
    assert (record["engine"], record["precision"]) == ("llama.cpp", "q8_0") and record["engine_version"]
    answers = read_jsonl(study / "lora_q8" / "generations.jsonl")
    assert [row["id"] for row in answers] == [row["id"] for row in rows[:4]]
    assert len(read_jsonl(study / "lora_q8" / "memorization.jsonl")) == 2
    assert not (study / "lora_q8" / "likelihood.jsonl").exists()
    again = run_here("generate.py", *words, "--arm", "lora_q8", "--engine", "gguf", "--likelihood_rows", 2)
    assert "already done" in again.stdout


def test_the_chat_page_asks_a_quantized_export_beside_its_original(study: Path) -> None:
    exported(study, "q8_0")
    assert {"lora", "lora_q8"} <= {*adapter_pool.arm_names(study)}
    arm = served_arms.load_quantized(study, "lora_q8", adapter_pool.system_of(study))
    asked: Any = [{"role": "user", "content": "Hi"}]
    assert adapter_pool.has_room(arm, asked, 64) and not adapter_pool.has_room(arm, asked, arm.context)
    *_, text = adapter_pool.answer(arm, asked, 64, 0.0, 1)
    answerer = generation.load(options(study, "lora_q8", engine="gguf"))
    (ids,) = generation.complete(answerer, [prompt_ids(arm.tokenizer, asked)], 64)
    assert text == answer_text(arm.tokenizer, ids) != ""
    drawn = [[*adapter_pool.answer(arm, asked, 16, 1.5, seed)][-1] for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_servers_share_rows_and_one_that_is_gone_loses_none(study: Path, reference: Any) -> None:
    exported(study, "f32")
    transformers, prompts, ours = reference
    file = llama_cpp.gguf_file(options(study, "lora_f32", engine="gguf"))
    one = llama_cpp.load(file, 2, 600)
    gone = "http://127.0.0.1:9"  # the discard port, where nothing listens
    server = served.connect([one.addresses[0] + "/v1"], "lora", transformers.tokenizer, 2)
    assert (server.kind, server.addresses) == (served.LLAMA_CPP, one.addresses)
    both = dataclasses.replace(server, addresses=(gone, *one.addresses))
    stops = stop_ids(transformers.tokenizer)
    theirs = served.complete(both, prompts[:4], 8, stops, None)
    assert theirs == [ids[:8] for ids in ours[:4]]
    with pytest.raises(UserError, match="no answer"):
        served.complete(dataclasses.replace(server, addresses=(gone,)), prompts[:1], 8, stops, None)
    with pytest.raises(UserError, match="is the server running"):
        served.connect([gone], "lora", transformers.tokenizer, 2)
    # sampled by seed, and by messages to a server of which nothing but OpenAI's interface is known
    drawn = generation.Sampling(1.0, 0.9, 7)
    # one at a time: beside another dialogue the logits round otherwise, and a draw from a wide nucleus may turn on it
    alone = dataclasses.replace(server, at_once=1)
    first, second = (served.complete(alone, prompts[:2], 8, stops, drawn) for _ in range(2))
    assert first == second != theirs[:2]
    penalised = generation.Sampling(0.0, 1.0, 0, 1.3)
    expected = generation.complete(transformers, prompts[:2], 8, penalised)
    assert served.complete(server, prompts[:2], 8, stops, penalised) == expected != theirs[:2]
    unknown = dataclasses.replace(server, kind=served.MESSAGES, model="any")
    served.check_tokens(unknown, transformers.tokenizer)
    asked: Any = [{"role": "user", "content": "Hi"}]
    by_messages = served.complete_messages(unknown, [asked], transformers.tokenizer, 64, stops, None)
    assert by_messages == served.complete(server, [prompt_ids(transformers.tokenizer, asked)], 64, stops, None)


def test_a_server_with_another_template_is_refused(study: Path, reference: Any) -> None:
    exported(study, "f32")
    transformers = reference[0]
    server = llama_cpp.load(llama_cpp.gguf_file(options(study, "lora_f32", engine="gguf")), 1, 600)
    other = loading.load_tokenizer(embedded.SMOLLM2)
    other.chat_template = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant: "
    unknown = dataclasses.replace(server, kind=served.MESSAGES, model="any")
    with pytest.raises(UserError, match="its chat template or system text is another one"):
        served.check_tokens(unknown, other)
    served.check_tokens(unknown, transformers.tokenizer)


@pytest.mark.parametrize("name", test_go_templates.NAMES)
def test_ollamas_template_says_what_llama_cpp_renders(name: str, tmp_path: Path, tiny_model: Path) -> None:
    """The Go template against the chat template in a GGUF file, by llama.cpp, less the BOS that llama.cpp adds."""
    tokenizer = test_go_templates.tokenizer_with(name)
    if tokenizer.chat_template is None:  # as an export saves it
        source = (test_go_templates.chat_template.FOLDER / "plain.jinja").read_text(encoding="utf-8")
        tokenizer.chat_template = test_go_templates.chat_template.inference_template(source)
    gguf_file.write(tiny_model, tmp_path / "a.gguf", tokenizer, "a", "f16", 512)
    server = llama_cpp.load(tmp_path / "a.gguf", 1, 256)
    # Mistral's <s> and </s> are not in this vocabulary, and llama.cpp writes the tokens that have their ids
    begins, ends = tokenizer.convert_ids_to_tokens([tokenizer.bos_token_id, tokenizer.eos_token_id])
    for messages in (test_go_templates.DIALOGUE, test_go_templates.DIALOGUE[:1]):
        rendered = served.post(server, "/apply-template", {"messages": messages})["prompt"]
        rendered = rendered.removeprefix(begins).replace(ends, tokenizer.eos_token)
        expected = test_go_templates.expected(name, messages)
        assert rendered.replace(" [INST]", "[INST]") == expected.replace(" [INST]", "[INST]")


def test_a_vocabulary_that_begins_with_bos_gets_one(tmp_path: Path) -> None:
    """Llama 3's real vocabulary: digits by threes, merges ignored for whole words, one BOS."""
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = llama_3()
    tokenizer.chat_template = (
        "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n"
        "{{ m.content }}<|eot_id|>{% endfor %}"
        "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
    )
    torch.manual_seed(0)
    size = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = LlamaConfig(vocab_size=len(tokenizer), tie_word_embeddings=True, **size)
    LlamaForCausalLM(config).save_pretrained(tmp_path)
    gguf_file.write(tmp_path, tmp_path / "a.gguf", tokenizer, "a", "f16", 512)
    server = llama_cpp.load(tmp_path / "a.gguf", 1, 256)
    text = "I've had 123456 naïve café headaches,\n\n  doctor's 😶 what?\t Übelkeit 37.5 °C"
    assert served.tokenize(server, text) == tokenizer(text, add_special_tokens=False)["input_ids"]
    dialogue: Any = [{"role": "user", "content": text}]
    ids = prompt_ids(tokenizer, dialogue)
    assert gguf_check.chat_ids(server, dialogue) == ids
    assert ids.count(tokenizer.bos_token_id) == 1 and ids[0] == tokenizer.bos_token_id


def test_a_broken_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.gguf").write_bytes(b"GGUF" + json.dumps({"a": 1}).encode())
    with pytest.raises(UserError, match="llama.cpp cannot read it"):
        llama_cpp.load(tmp_path / "a.gguf", 1, 64)
