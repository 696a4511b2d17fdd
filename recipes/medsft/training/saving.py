"""Saving the trained weights of an arm: adapter/ or model/, complete or absent."""

import shutil
from typing import TYPE_CHECKING

from transformers import GenerationConfig

from medsft import manifest
from medsft.tokenization import chat_template
from medsft.training.checkpoints import wait_for_all
from medsft.training.dataset import Data
from medsft.training.run_folder import ArmFolder
from medsft.training.trainer import RecipeTrainer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def save(trainer: RecipeTrainer, arm: ArmFolder, data: Data, name: str) -> None:
    """Write the weights, the tokenizer and a manifest to the arm's folder `name`, by a temporary name and a rename."""
    temporary, final = arm.folder / f".{name}.tmp", arm.folder / name
    data.tokenizer.chat_template = data.saved_template
    if trainer.is_world_process_zero():
        shutil.rmtree(temporary, ignore_errors=True)
    wait_for_all(trainer.args)
    trainer.save_model(str(temporary))
    wait_for_all(trainer.args)
    if not trainer.is_world_process_zero():
        return
    data.tokenizer.save_pretrained(temporary)
    generation_config(data.tokenizer).save_pretrained(temporary)
    manifest.write(temporary, but=".md")  # the model card is written later
    if final.exists():
        shutil.rmtree(final)
    temporary.replace(final)


def generation_config(tokenizer: "PreTrainedTokenizerBase") -> GenerationConfig:
    """Greedy generation that ends where the template ends a turn, for whoever serves the saved model."""
    return GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=sorted(chat_template.stop_ids(tokenizer)),
        pad_token_id=tokenizer.pad_token_id,
    )
