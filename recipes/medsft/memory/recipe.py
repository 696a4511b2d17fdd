"""A training recipe's YAML as the memory plan reads it, without making TRL's configuration, which wants the machine."""

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

from medsft.arguments import PlanArguments, StudyArguments
from medsft.config import nearest, read_config
from medsft.errors import UserError
from medsft.memory.step_config import of_recipe
from medsft.memory.strategies import check_options

OWN = (
    "arm",
    "strategy",
    "use_peft",
    "num_train_epochs",
    "max_steps",
    "learning_rate",
    "optim",
)  # no plan.yaml has any of them


class Recipe(NamedTuple):
    """What a recipe decides: its way of training, the fields of `training_step.Step`, and options of the plan."""

    path: Path
    strategy: str
    step: dict[str, Any]
    options: dict[str, Any]
    on_cpu: bool
    names_attention: bool


def read_recipe(argv: list[str]) -> Recipe | None:
    """The recipe that `--config` names; None where it names a plan.yaml or nothing. Raises UserError for unknown keys
    and for a recipe of another stage.
    """
    values = read_config(argv)
    if not set(OWN) & set(values):
        return None
    from trl import ModelConfig, SFTConfig

    path = Path(argv[argv.index("--config") + 1])
    known = {f.name: f for kind in (StudyArguments, SFTConfig, ModelConfig) for f in dataclasses.fields(kind)}
    for key in values:
        if key not in known:
            raise UserError(f"unknown option '{key}' in {path}: {nearest(key, known)}")
    of_plan = {f.name for f in dataclasses.fields(PlanArguments)}
    chosen = SimpleNamespace(**{name: _default(f) for name, f in known.items()} | values)
    strategy = chosen.strategy or ("lora" if chosen.use_peft else "full")
    try:
        check_options(strategy, chosen, chosen, chosen)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    return Recipe(
        path=path,
        strategy=strategy,
        step=of_recipe(chosen, chosen, chosen),
        options={k: v for k, v in values.items() if k in of_plan},
        on_cpu=bool(chosen.use_cpu),
        names_attention=chosen.attn_implementation is not None,
    )


def _default(field: Any) -> Any:
    return field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default
