"""What every script shares at the command line: instant --help, YAML plus overrides, kind errors, exit status.

Exit status: 0 done; 2 the user's input or configuration is wrong; 3 it does not fit this machine; 130 interrupted.
"""

import dataclasses
import difflib
import errno
import gc
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NoReturn, get_args, get_origin, get_type_hints

from medsft import startup

CONFIGS = Path(__file__).resolve().parent.parent / "configs"


class UserError(Exception):
    """The input or the configuration is wrong. The message is one line that names the place and the remedy."""


class DoesNotFit(Exception):  # noqa: N818 - it is a finding about the machine, not a fault
    """This machine cannot do it (memory, disk, device). The message says what would fit."""


def run(main: Callable[[], None], doc: str | None, *arguments: type) -> None:
    """Run a script's `main`; turn our own errors into one line and the exit status of the contract."""
    if {"-h", "--help"} & set(sys.argv[1:]):
        print(help_text(doc or "", arguments))
        return
    try:
        startup.import_quickly(_compiles())
        main()
    except UserError as error:
        _say(f"error: {error}")
        sys.exit(2)
    except DoesNotFit as error:
        _say(f"does not fit: {error}")
        sys.exit(3)
    except Exception as error:
        _end_for(error)
        raise
    except KeyboardInterrupt:
        _say("interrupted: what is finished is kept, the same command continues from there")
        sys.exit(130)
    finally:
        gc.enable()


def _compiles() -> bool:
    """Whether the user asks for torch's compiler: by an option, by accelerate's YAML, or for flexible attention."""
    launcher = os.environ.get("ACCELERATE_DYNAMO_BACKEND", "NO").upper() != "NO"
    return launcher or is_on("torch_compile") or peek("attn_implementation", None) == "flex_attention"


def _end_for(error: BaseException) -> None:
    """End with one line where the system would not let us write; nothing happens for any other error."""
    if full := next((cause for cause in _chain(error) if _is_full(cause)), None):
        name = getattr(full, "filename", None)
        place = f"{name}: " if name else ""
        _say(f"does not fit: {place}no space left on the disk; free some, and the same command goes on")
        sys.exit(3)
    if not isinstance(error, OSError) or not error.filename:
        return
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR):
        remedy = "give a folder that can be written, such as runs/NAME"
        _say(f"error: {error.filename}: {str(error.strerror).lower()}; {remedy}")
        sys.exit(2)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error and what it was raised in the handling of: a library's clean-up can hide that the disk is full."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _is_full(error: BaseException) -> bool:
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    return full or "No space left" in str(error)


def _say(line: str) -> None:
    """Print to stderr, on the last line, also where a progress bar is under way."""
    bars = sys.modules.get("tqdm")
    for bar in list(getattr(bars.tqdm, "_instances", ())) if bars else ():
        bar.close()
    print(line, file=sys.stderr, flush=True)


def help_text(doc: str, arguments: Iterable[type]) -> str:
    """The script's docstring and its own options, without importing torch (under a tenth of a second)."""
    lines = [doc.strip(), "", "options:", "  --config FILE.yaml", "      values of any option below; flags override it"]
    for field in [f for cls in arguments for f in dataclasses.fields(cls)]:
        default = field.default_factory() if field.default is dataclasses.MISSING else field.default  # type: ignore
        shown = "" if default in (None, "", []) else f" (default: {default})"
        lines += [f"  --{field.name}", f"      {field.metadata.get('help', '')}{shown}"]
    return "\n".join(lines)


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
