"""What the presets are: the paper's counts on its model, a reason for every other value, the same rows at each step."""

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from conftest import RECIPES
from medsft import arguments
from medsft.config import parse

CONFIGS = RECIPES / "configs"
MISTRAL = CONFIGS / "mistral_7b"
MODELS = sorted(p.parent.name for p in CONFIGS.glob("*/qlora.yaml") if p.parent.name not in ("demo", "mistral_7b"))
# Parameters in the safetensors of the hub, as the model's page counts them
PARAMETERS = {
    "llama31_8b": 8_030_261_248,
    "qwen25_7b": 7_615_616_512,
    "qwen3_8b": 8_190_735_360,
    "phi4_mini": 3_836_021_760,
    "gemma3_4b": 4_300_079_472,
    "medgemma_4b": 4_300_079_472,
}
NAMES = {"strategy", "arm", "study_dir", "data_config"}


def lora(recipe: Path) -> tuple[Any, Any]:
    """(model on the meta device, its LoRA) as a recipe asks for them: true shapes, no memory."""
    from peft import get_peft_model
    from trl import ModelConfig, SFTConfig, get_peft_config

    from medsft.models.meta import empty_model
    from medsft.models.parameter_counts import known_config

    classes = [arguments.StudyArguments, SFTConfig, ModelConfig]
    _, _, asked = parse(classes, argv=["--config", str(recipe), "--use_cpu", "true", "--load_in_4bit", "false"])
    base = empty_model(known_config(asked.model_name_or_path), "bfloat16")
    total = sum(p.numel() for p in base.parameters())
    with torch.device("meta"):
        return total, get_peft_model(base, get_peft_config(asked))


@pytest.mark.parametrize("name", ["paper", "lora", "qlora"])
def test_mistrals_adapters_are_the_papers(name: str) -> None:
    total, network = lora(MISTRAL / f"{name}.yaml")
    trainable = sum(p.numel() for p in network.parameters() if p.requires_grad)
    assert (trainable, total) == (41_943_040, 7_241_732_096)
    assert f"{100 * trainable / total:.3f}" == "0.579"


@pytest.mark.parametrize("name", ["lora", "qlora"])
def test_every_value_that_differs_from_the_papers_has_its_reason(name: str) -> None:
    paper = yaml.safe_load((MISTRAL / "paper.yaml").read_text())
    lines = (MISTRAL / f"{name}.yaml").read_text().splitlines()
    ours = yaml.safe_load("\n".join(lines))
    for line in lines:
        key = line.split(":")[0]
        if key in ours and key not in NAMES and ours[key] != paper.get(key):
            assert "  # " in line, f"{name}.yaml: {key} is {paper.get(key)} in the paper"
    faults = ("end_of_turn_loss", "double_bos", "truncate_answers", "pad_to_multiple_of", "chat_template_path")
    assert not set(faults) & set(ours)


@pytest.mark.parametrize("folder", MODELS)
def test_other_models_get_the_same_experiment_as_mistral(folder: str) -> None:
    same = (
        "max_length",
        "max_dev_rows",
        "num_train_epochs",
        "lr_scheduler_type",
        "warmup_steps",
        "weight_decay",
        "seed",
        "rows_per_step",
    )
    for name in ("lora", "qlora"):
        ours, theirs = (yaml.safe_load((CONFIGS / f / f"{name}.yaml").read_text()) for f in (folder, "mistral_7b"))
        assert {key: ours[key] for key in same} == {key: theirs[key] for key in same}
    data = [yaml.safe_load((CONFIGS / f / "data.yaml").read_text()) for f in (folder, "mistral_7b")]
    assert {k: v for k, v in data[0].items() if k not in ("model_name_or_path", "study_dir")}.items() <= data[1].items()


@pytest.mark.parametrize("folder", MODELS)
def test_a_models_recipes_are_a_whole_study_of_one_model(folder: str) -> None:
    stages = {"data", "plan", "lora", "qlora", "full", "generate", "score", "report"}
    assert {path.stem for path in (CONFIGS / folder).glob("*.yaml")} == stages
    read = [yaml.safe_load(path.read_text()) for path in (CONFIGS / folder).glob("*.yaml")]
    assert len({values["model_name_or_path"] for values in read if "model_name_or_path" in values}) == 1


@pytest.mark.parametrize("folder", sorted(PARAMETERS))
def test_a_models_shape_is_its_published_one_without_the_hub(folder: str) -> None:
    from medsft.models.parameter_counts import count_parameters, known_config

    config = known_config(yaml.safe_load((CONFIGS / folder / "plan.yaml").read_text())["model_name_or_path"])
    assert count_parameters(config) == PARAMETERS[folder]


@pytest.mark.slow
@pytest.mark.parametrize("folder", MODELS)
def test_adapters_are_on_every_projection_of_the_language_model_and_nowhere_else(folder: str) -> None:
    _, network = lora(CONFIGS / folder / "lora.yaml")
    adapted = {name.split(".lora_A.")[0] for name, _ in network.named_parameters() if ".lora_A." in name}
    layers = network.config.get_text_config().num_hidden_layers
    assert len(adapted) == layers * (4 if folder == "phi4_mini" else 7)
    assert not [name for name in adapted if "vision" in name]


def test_the_papers_prompt_begins_with_one_bos_and_teaches_its_label() -> None:
    """Its second BOS is the switch `double_bos`; the label is part of what the model must write."""
    from medsft.models import embedded, loading
    from medsft.tokenization import chat_template

    tokenizer = loading.load_tokenizer(embedded.SMOLLM2)
    tokenizer.bos_token, tokenizer.eos_token = "<|endoftext|>", "<|im_end|>"
    template = chat_template.training_template(tokenizer, str(MISTRAL / "paper.jinja"))
    rendered = chat_template.render(tokenizer, chat_template.PROBE[:2], template)
    assert rendered.input_ids.count(tokenizer.bos_token_id) == 1
    learned = [token for token, kept in zip(*rendered, strict=True) if kept]
    assert tokenizer.decode(learned) == " Medical Recommendations: Since when?<|im_end|>"
