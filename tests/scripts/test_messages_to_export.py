"""From `messages` data with system turns to an exported model, with Llama-3's real vocabulary and chat template."""

import json
from pathlib import Path
from typing import Any

import pytest

from conftest import RECIPES, run_here
from medsft.data.split_files import load_split
from real_vocabularies import llama_3, package_file
from template_families import SHIPPED

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        package_file("llama_models", "llama3/tokenizer.model") is None,
        reason="llama-models, which has Llama-3's vocabulary, is not installed; run the tests by `make test`",
    ),
]
EOT = 128_009  # <|eot_id|>, by https://github.com/meta-llama/llama-models, models/llama3/tokenizer.py
SYSTEM = "You answer patients of a small practice."
DEMO = RECIPES / "configs" / "demo"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama of 2 million weights under Llama-3's tokenizer and template, as a local folder."""
    import torch
    from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

    tokenizer = llama_3()
    tokenizer.chat_template = (SHIPPED / "llama3.jinja").read_text()
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=128_256,  # as Meta's, more than the tokens that have names
        tie_word_embeddings=True,
        max_position_embeddings=512,
        bos_token_id=128_000,
        eos_token_id=128_001,
        **sizes,
    )
    folder = tmp_path_factory.mktemp("llama3") / "model"
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    GenerationConfig(eos_token_id=[128_001, EOT]).save_pretrained(folder)  # as Meta's lists both
    tokenizer.save_pretrained(folder)
    return folder


def rows() -> list[dict[str, Any]]:
    """Consultations of two exchanges in TRL's and OpenAI's `messages`, each after the same system turn."""
    parts = ["ear", "knee", "back", "throat", "elbow", "ankle", "wrist", "shoulder", "hip", "neck", "thumb", "heel"]
    said = [
        (f"My {part} hurts since the {day} of May, worse {part} pain at night.", f"Is the {part} swollen?")
        for day, part in enumerate(parts, 1)
    ]
    return [
        {
            "messages": [
                {"role": "system", "content": SYSTEM},
                {"role": "user", "content": asked},
                {"role": "assistant", "content": answered},
                {"role": "user", "content": f"No, but the {part} is warm: 37.8 °C, 头痛."},
                {"role": "assistant", "content": f"Cool the {part} for 10 minutes; come in on Monday."},
            ]
        }
        for part, (asked, answered) in zip(parts, said, strict=True)
    ]


def ran(name: str, *words: object) -> None:
    done = run_here(name, *words)
    assert done.returncode == 0, done.stderr[-2000:]


def test_llama_3_from_messages_to_an_exported_model_that_is_asked_as_it_was_trained(
    model: Path, tmp_path: Path
) -> None:
    source, study = tmp_path / "mine.jsonl", tmp_path / "study"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows()))
    ran("prepare_data.py", "--data", source, "--study_dir", study, "--model_name_or_path", model)
    report = json.loads((study / "data" / "data_report.json").read_text())
    assert report["system_turns"] == {"rows": 12, "how": "keep", "text": SYSTEM}
    assert load_split(str(study), "train")[0]["messages"][0] == {"role": "system", "content": SYSTEM}

    short = ("--max_steps", 2, "--max_dev_rows", 2, "--eval_steps", 2, "--save_steps", 2, "--host_reserve_gb", 0)
    config = ("--config", DEMO / "lora.yaml", "--study_dir", study, "--model_name_or_path", model)
    ran("sft_lora.py", *config, *short)
    trained = json.loads((study / "lora" / "train.json").read_text())
    assert trained["steps"] == 2 and 0 < trained["answer_tokens_seen"] < trained["tokens_seen"]

    answering = ("--study_dir", study, "--arm", "lora", "--max_rows", 2, "--max_new_tokens", 4)
    ran("generate.py", *answering)
    generated = [json.loads(line) for line in (study / "lora" / "generations.jsonl").read_text().splitlines()]
    assert len(generated) == 2
    for row in generated:
        assert row["messages"][0] == {"role": "system", "content": SYSTEM}
        assert row["prompt"].startswith(f"System: {SYSTEM}\nPatient: My ")

    ran("export.py", "--study_dir", study, "--arm", "lora", "--output_dir", tmp_path / "out", "--dtype", "float32")
    stops = json.loads((tmp_path / "out" / "generation_config.json").read_text())["eos_token_id"]
    assert {128_001, EOT} <= {*stops}

    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    asked = generated[0]["messages"]
    ids = tokenizer.apply_chat_template(asked, add_generation_prompt=True, return_dict=True)["input_ids"]
    text = tokenizer.decode(ids)
    assert text.startswith(f"<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\n{SYSTEM}<|eot_id|>")
    assert text.endswith("<|start_header_id|>assistant<|end_header_id|>\n\n") and ids.count(128_000) == 1
    served = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert served.config.vocab_size == 128_256 and served.num_parameters() > 2_000_000
