"""Options from the command line and a YAML: read without torch for preflight, parsed by TRL's parser.

`argv` is everywhere what `command_line` returns: the words of the command line with the configuration in force.
"""

import argparse
import dataclasses
import difflib
import gc
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar, cast, get_args, get_origin, get_type_hints

from medsft.errors import UserError
from medsft.patches import trl
from medsft.records import Json

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
A = TypeVar("A")
# YAML reads an unquoted no as False
NO = {"eval_strategy": "no", "save_strategy": "no", "logging_strategy": "no", "report_to": "none"}


class _OneLineErrors(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:  # argparse would print 300 lines of usage first
        raise UserError(message)


def command_line(default_config: Path | None = None, given: list[str] | None = None) -> list[str]:
    """The arguments with `--config=X` as two words and dashes in option names as underscores, and with the default
    configuration where none is named. TRL's parser reads only this form of `--config`.
    """
    argv = []
    for arg in sys.argv[1:] if given is None else given:
        name, equals, value = arg.partition("=")
        if name.startswith("--"):
            name = "--" + name[2:].replace("-", "_")
        argv += ["--config", value] if name + equals == "--config=" else [name + equals + value]
    if "--config" not in argv and default_config is not None:
        argv = ["--config", str(default_config), *argv]
    return argv


def parse(arguments: Sequence[type[A]], argv: list[str] | None = None) -> tuple[A, ...]:
    """Parse `--config FILE.yaml` and `--field value` overrides into one instance per dataclass, in order.

    Raises UserError for a missing or malformed YAML, an unknown key (the nearest known one is named), or a value of
    the wrong type.
    """
    argv = command_line(given=argv)
    config = read_config(argv)
    _check_names(arguments, config, argv)
    # the parser reads the file again
    said_no = [key for key in NO if config.get(key) == NO[key] and key not in _flags(argv)]
    argv = [*argv, *(word for key in said_no for word in (f"--{key}", NO[key]))]

    trl.import_trl()

    from trl import TrlParser

    class Parser(_OneLineErrors, TrlParser):
        pass

    try:
        parsed: tuple[A, ...] = Parser(cast(Iterable[Any], arguments), allow_abbrev=False).parse_args_and_config(argv)
    except (TypeError, ValueError) as error:
        raise UserError(" ".join(str(error).split())) from error
    for part in parsed:
        _check_types(part)
    gc.enable()
    return parsed


def read_config(argv: list[str]) -> Json:
    """The YAML named by `--config` in `argv` as a dict; empty if there is none."""
    if "--config" not in argv:
        return {}
    position = argv.index("--config") + 1
    if position == len(argv):
        raise UserError("--config needs a YAML file after it")

    import yaml

    path = Path(argv[position])
    if not path.is_file():
        raise UserError(f"{path}: no such configuration file; {_configurations_like(path)}")
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(config, dict):
        raise UserError(f"{path}: expected 'key: value' lines, found {type(config).__name__}")
    return {key: NO[key] if key in NO and value is False else value for key, value in config.items()}


def _configurations_like(path: Path) -> str:
    """The recipes of the folder that a path names; where there is no such folder, the folders that there are."""
    known = sorted(folder.name for folder in CONFIGS.iterdir() if any(folder.glob("*.yaml")))
    if path.parent.name in known:
        files = sorted(file.name for file in (CONFIGS / path.parent.name).glob("*.yaml"))
        return f"{nearest(path.name, files, '')} recipes/configs/{path.parent.name} has {', '.join(files)}".strip()
    guess = nearest(path.parent.name, known, " ").strip()
    return f"{guess} the folders of recipes/configs are {', '.join(known)}".strip()


def config_path(argv: list[str]) -> Path:
    """The path after --config. Raises ValueError where there is none."""
    return Path(argv[argv.index("--config") + 1])


def peek(name: str, default: object, argv: list[str]) -> object:
    """One option's value from the command line or the YAML, as the parser would read it, but without torch.

    A string from the command line is not converted; an option without a value is True, and `--no_x` is False.
    """
    parser = _OneLineErrors(add_help=False, allow_abbrev=False)
    parser.add_argument(f"--{name}", nargs="?", const=True, default=read_config(argv).get(name, default))
    parser.add_argument(f"--no_{name}", dest=name, action="store_false")
    return getattr(parser.parse_known_args(argv)[0], name)


def is_on(option: str, argv: list[str], default: bool = False) -> bool:
    """Whether a boolean option is true, by `peek`, in any word that the parser takes for true."""
    return str(peek(option, default, argv)).lower() in ("yes", "true", "t", "y", "1")


def settings(parsed: tuple[object, ...], argv: list[str]) -> Json:
    """What the YAML and the flags set, with the parsed values: enough to run the same again with `--config`."""
    chosen = read_config(argv)
    for flag in _flags(argv):
        name = flag if any(hasattr(part, flag) for part in parsed) else flag.removeprefix("no_")
        value = next(getattr(part, name) for part in parsed if hasattr(part, name))
        chosen[name] = getattr(value, "value", value)  # enumerations by their name
    return chosen


def nearest(name: str, known: Iterable[str], otherwise: str = "") -> str:
    """'did you mean ...?' with the known name that looks most like this one; `otherwise` (all names) if none does."""
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean '{near[0]}'?" if near else otherwise or f"known are {', '.join(known)}"


def _flags(argv: list[str]) -> list[str]:
    """The names of the options on the command line, in order."""
    return [word.split("=")[0].removeprefix("--") for word in argv if word.startswith("--") and word != "--config"]


def _check_names(arguments: Sequence[type], config: Json, argv: list[str]) -> None:
    """Raise UserError for an option that none of the dataclasses has."""
    fields = [field for kind in arguments for field in dataclasses.fields(kind) if field.init]
    known = {field.name for field in fields} | {"env"}
    # the parser adds --no_x for each x that is True by default
    flags = known | {f"no_{field.name}" for field in fields if field.default is True}
    unknown = [(key, f"in {config_path(argv)}") for key in config if key not in known]
    unknown += [(flag, "on the command line") for flag in _flags(argv) if flag not in flags]
    for key, where in unknown:
        raise UserError(f"unknown option '{key}' {where}: {nearest(key, known, 'see --help for the known options')}")


def _check_types(part: object) -> None:
    """Raise UserError where a YAML gave one of our own scalar options a value of another type, such as a list."""
    if not type(part).__module__.startswith("medsft."):
        return
    for name, hint in get_type_hints(type(part)).items():
        types, value = (get_args(hint) or (hint,)), getattr(part, name)
        scalar = get_origin(hint) is not list and set(types) <= {int, float, str, bool, type(None)}
        if not scalar or isinstance(value, types) or (float in types and isinstance(value, int)):
            continue
        wanted = " or ".join(t.__name__ for t in types if t is not type(None))
        raise UserError(f"{name}: expected {wanted}, found {type(value).__name__} {str(value)[:40]!r}")
