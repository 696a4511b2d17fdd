"""What every script shares at the command line: instant --help, actionable errors, exit status.

Exit status: 0 done; 2 the user's input or configuration is wrong; 3 it does not fit this machine; 130 interrupted.
"""

import dataclasses
import errno
import gc
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import NoReturn

from medsft import startup, terminal
from medsft.config import command_line, is_on, peek
from medsft.errors import DoesNotFit, UserError
from medsft.patches import tqdm


def run(main: Callable[[], None], doc: str | None, *arguments: type) -> None:
    """Run a script's `main`; turn our own errors into one line and the exit status of the contract."""
    terminal.print_any_text()
    if {"-h", "--help"} & set(sys.argv[1:]):
        try:
            print(help_text(doc or "", arguments), flush=True)
        except BrokenPipeError:  # the reader, such as `head`, has seen enough; what is left goes nowhere
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return
    try:
        terminal.quiet_libraries()
        startup.find_own_tools()
        startup.import_quickly(_compiles())
        main()
    except UserError as error:
        _end(f"error: {error}", 2)
    except DoesNotFit as error:
        _end(f"does not fit: {error}", 3)
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
    argv = command_line()
    return launcher or is_on("torch_compile", argv) or peek("attn_implementation", None, argv) == "flex_attention"


def _end_for(error: BaseException) -> None:
    """End with one line where the system refused a write; returns for any other error."""
    if full := next((cause for cause in _chain(error) if _is_full(cause)), None):
        name = getattr(full, "filename", None)
        file = f"{name}: " if name else ""
        _end(f"does not fit: {file}no space left on the disk; free some, and the same command goes on", 3)
    if not isinstance(error, OSError) or not error.filename:
        return
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR):
        remedy = "give a folder that can be written, such as runs/NAME"
        _end(f"error: {error.filename}: {str(error.strerror).lower()}; {remedy}", 2)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error and those during whose handling it was raised: a library's clean-up can hide that the disk is full."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _is_full(error: BaseException) -> bool:
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    return full or "No space left" in str(error)


def _end(line: str, status: int) -> NoReturn:
    _say(f"stopped: {line}" if terminal.say_last(line) else line)
    sys.exit(status)


def _say(line: str) -> None:
    """Print to stderr, on the last line, also where a progress bar is under way."""
    tqdm.close_bars()
    print(line, file=sys.stderr, flush=True)


def help_text(doc: str, arguments: Iterable[type]) -> str:
    """The script's docstring and its own options, without importing torch (under a tenth of a second)."""
    lines = [doc.strip(), "", "options:", "  --config FILE.yaml", "      values of any option below; flags override it"]
    for field in [f for cls in arguments for f in dataclasses.fields(cls)]:
        default = field.default_factory() if field.default is dataclasses.MISSING else field.default  # type: ignore
        shown = "" if default in (None, "", []) else f" (default: {default})"
        lines += [f"  --{field.name}", f"      {field.metadata.get('help', '')}{shown}"]
    return "\n".join(lines)
