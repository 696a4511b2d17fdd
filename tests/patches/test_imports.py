"""What is left out of a process, and that the libraries still look for it where the patches expect."""

import subprocess
import sys
from importlib import metadata

import pytest

from conftest import RECIPES
from medsft.patches import accelerate, transformers, trl

LOSSES = f"""
import sys
from {transformers.__name__} import import_losses
import_losses()
from transformers.loss import loss_for_object_detection
from transformers import AutoModelForCausalLM, LlamaForCausalLM, utils
print("scipy.optimize" in sys.modules, utils.is_scipy_available(), hasattr(loss_for_object_detection, "reduce"))
"""
UNWRAP = f"""
import os, sys
import torch
from accelerate.utils import extract_model_from_parallel
from {accelerate.__name__} import unwrap_without_deepspeed
unwrap_without_deepspeed()
network = torch.nn.Linear(1, 1)
print(extract_model_from_parallel(network) is network, "deepspeed" in sys.modules)
os.environ["DS_ACCELERATOR"] = "cpu"  # else it says which it found
from deepspeed import DeepSpeedEngine
engine = DeepSpeedEngine.__new__(DeepSpeedEngine)
torch.nn.Module.__init__(engine)
engine.module = network
print(extract_model_from_parallel(engine) is network)
"""
TABLE = f"""
from importlib import metadata
def all_packages():
    raise SystemExit("the table of all packages was made")
metadata.packages_distributions = all_packages
from {trl.__name__} import OfPackages, import_trl
import_trl()
from trl import import_utils
print(metadata.packages_distributions is all_packages, type(import_utils.PACKAGE_DISTRIBUTION_MAPPING) is OfPackages)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "expected"),
    [(LOSSES, "False True True"), (UNWRAP, "True False\nTrue"), (TABLE, "True True")],
    ids=["losses without SciPy", "no DeepSpeed until it is used", "no table of all packages"],
)
def test_a_process_imports_no_more_than_it_uses(script: str, expected: str) -> None:
    command = [sys.executable, "-W", "ignore", "-c", f"import sys; sys.path.insert(0, {str(RECIPES)!r})\n{script}"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stdout.strip() == expected, done.stderr[-2000:]


@pytest.mark.parametrize("package", ["transformers", "yaml"])  # yaml is of PyYAML
def test_a_package_is_of_the_same_distribution_as_in_the_table_of_all(package: str) -> None:
    assert trl.OfPackages()[package] == metadata.packages_distributions()[package]


def test_a_package_of_no_distribution_is_not_found() -> None:
    with pytest.raises(KeyError, match="no_such_package"):
        trl.OfPackages()["no_such_package"]
