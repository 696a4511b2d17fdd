"""Read a training recipe's YAML for the memory plan, without TRL's configuration, which needs the machine it is for."""

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from medsft.arguments import PlanArguments, StudyArguments
from medsft.config import nearest, read_config
from medsft.errors import UserError
from medsft.memory.step_config import StepSettings, of_recipe
from medsft.memory.strategies import check_options
from medsft.patches.transformers import import_losses

if TYPE_CHECKING:
    from trl import ModelConfig, SFTConfig

# no plan.yaml has any of them
OWN = ("arm", "strategy", "use_peft", "num_train_epochs", "max_steps", "learning_rate", "optim")


class Recipe(NamedTuple):
    """What a recipe decides: its strategy, the settings of its step, and options of the plan."""

    path: Path
    strategy: str
    step: StepSettings
    options: dict[str, object]
    on_cpu: bool
    names_attention: bool
    rows_per_step: int


def read_recipe(argv: list[str]) -> Recipe | None:
    """The recipe that `--config` names; None where it names a plan.yaml or nothing. Raises UserError for unknown keys
    and for a recipe of another stage.
    """
    values = read_config(argv)
    if not set(OWN) & set(values):
        return None
    import_losses()

    from trl import ModelConfig, SFTConfig

    path = Path(argv[argv.index("--config") + 1])
    known = {f.name: f for kind in (StudyArguments, SFTConfig, ModelConfig) for f in dataclasses.fields(kind)}
    for key in values:
        if key not in known:
            raise UserError(f"unknown option '{key}' in {path}: {nearest(key, known)}")
    of_plan = {f.name for f in dataclasses.fields(PlanArguments)}
    chosen = SimpleNamespace(**{name: _default(f) for name, f in known.items()} | values)
    study, config, model_args = cast(StudyArguments, chosen), cast("SFTConfig", chosen), cast("ModelConfig", chosen)
    strategy = study.strategy or ("lora" if model_args.use_peft else "full")
    try:
        check_options(strategy, study, config, model_args)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    return Recipe(
        path=path,
        strategy=strategy,
        step=of_recipe(study, config, model_args),
        options={k: v for k, v in values.items() if k in of_plan},
        on_cpu=bool(config.use_cpu),
        names_attention=model_args.attn_implementation is not None,
        rows_per_step=study.rows_per_step or config.per_device_train_batch_size * config.gradient_accumulation_steps,
    )


def _default(field: "dataclasses.Field[Any]") -> object:
    return field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default
