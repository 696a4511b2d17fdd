"""Options from the command line and YAML, read without torch, and parsed by TRL's parser."""

import difflib
import gc
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NoReturn, get_args, get_origin, get_type_hints

from medsft.errors import UserError

CONFIGS = Path(__file__).resolve().parent.parent / "configs"


def parse(arguments: list[type], default_config: Path | None = None, argv: list[str] | None = None) -> tuple[Any, ...]:
    """Parse `--config FILE.yaml` and `--field value` overrides into one instance per dataclass, in order.

    Raises UserError for a missing or malformed YAML, an unknown key (the nearest known one is named), or a value of
    the wrong type.
    """
    argv = command_line(default_config, argv)
    config = read_config(argv)

    from trl import TrlParser

    class Parser(TrlParser):
        def error(self, message: str) -> NoReturn:  # argparse would print 300 lines of usage first
            raise UserError(message)

    kinds: Any = arguments
    parser = Parser(kinds, allow_abbrev=False)
    known = {action.dest for action in parser._actions} | {"env"}
    for key in config:
        _check_known(key, known, f"in {argv[argv.index('--config') + 1]}")
    for flag in [a.split("=")[0] for a in argv if a.startswith("--") and a != "--config"]:
        if flag not in parser._option_string_actions:
            _check_known(flag.removeprefix("--"), known, "on the command line")
    try:
        parsed = parser.parse_args_and_config(argv)
    except (TypeError, ValueError) as error:
        raise UserError(" ".join(str(error).split())) from error
    for part in parsed:
        _check_types(part)
    gc.enable()
    return parsed


def _check_types(part: Any) -> None:
    """Raise UserError where a YAML gave one of our own scalar options a value of another kind, such as a list."""
    if not type(part).__module__.startswith("medsft."):
        return
    for name, kind in get_type_hints(type(part)).items():
        kinds, value = (get_args(kind) or (kind,)), getattr(part, name)
        scalar = get_origin(kind) is not list and set(kinds) <= {int, float, str, bool, type(None)}
        if not scalar or isinstance(value, kinds) or (float in kinds and isinstance(value, int)):
            continue
        wanted = " or ".join(k.__name__ for k in kinds if k is not type(None))
        raise UserError(f"{name}: expected {wanted}, found {type(value).__name__} {str(value)[:40]!r}")


def read_config(argv: list[str]) -> dict[str, Any]:
    """The YAML named by `--config` in `argv` as a dict; empty if there is none."""
    if "--config" not in argv:
        return {}
    position = argv.index("--config") + 1
    if position == len(argv):
        raise UserError("--config needs a YAML file after it")

    import yaml

    path = Path(argv[position])
    if not path.is_file():
        near = ", ".join(sorted(str(p) for p in CONFIGS.glob("*/*.yaml"))[:6])
        raise UserError(f"{path}: no such configuration file; some that exist: {near}")
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(config, dict):
        raise UserError(f"{path}: expected 'key: value' lines, found {type(config).__name__}")
    return config


def peek(name: str, default: Any, default_config: Path | None = None) -> Any:
    """One option's value from the command line or the YAML, read without torch, for guards that must be fast.

    As the parser has it, the last word of several counts, an option with no value after it is true, and --no_x is
    --x false.
    """
    argv = command_line(default_config)
    for position, arg in reversed([*enumerate(argv)]):
        if arg == f"--{name}":
            after = argv[position + 1 : position + 2]
            return after[0] if after and not after[0].startswith("--") else True
        if arg.startswith(f"--{name}="):
            return arg.split("=", 1)[1]
        if arg == f"--no_{name}":
            return False
    return read_config(argv).get(name, default)


def is_on(option: str, default_config: Path | None = None) -> bool:
    """Whether an option that is true or false is true, by `peek`, in any word that the parser takes for true."""
    return str(peek(option, False, default_config)).lower() in ("yes", "true", "t", "y", "1")


def config_path(default_config: Path) -> Path:
    """The YAML in force: the one given with `--config`, or the script's default."""
    argv = command_line(default_config)
    return Path(argv[argv.index("--config") + 1])


def settings(parsed: tuple[Any, ...], default_config: Path | None = None) -> dict[str, Any]:
    """What the user decided, by YAML or flag, as it was parsed: enough to run the same again with `--config`."""
    argv = command_line(default_config)
    chosen = read_config(argv)
    for flag in [a.split("=")[0].removeprefix("--") for a in argv if a.startswith("--") and a != "--config"]:
        # --no_x is the parser's word for --x false
        name = flag if any(hasattr(part, flag) for part in parsed) else flag.removeprefix("no_")
        value = next(getattr(part, name) for part in parsed if hasattr(part, name))
        chosen[name] = getattr(value, "value", value)  # enumerations by their name
    return chosen


def command_line(default_config: Path | None = None, given: list[str] | None = None) -> list[str]:
    """The arguments with `--config=X` as two words, options in underscores (the parser takes dashes too), and the
    default configuration where none is named.
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


def _check_known(key: str, known: set[str], where: str) -> None:
    if key in known:
        return
    raise UserError(f"unknown option '{key}' {where}: {nearest(key, known, 'see --help for the known options')}")


def nearest(name: str, known: Iterable[str], otherwise: str = "") -> str:
    """'did you mean ...?' with the known name that looks most like this one; `otherwise` (all names) if none does."""
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean '{near[0]}'?" if near else otherwise or f"known are {', '.join(known)}"
