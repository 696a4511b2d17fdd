"""Talk to two or more arms of a study side by side in a browser, on this machine only.

    python recipes/chat.py --study_dir runs/demo
    python recipes/chat.py --study_dir runs/demo --arms baseline,lora --port 7861
    MEDSFT_PASSWORD=... python recipes/chat.py --study_dir runs/demo --host 0.0.0.0

The arms stand under letters until you have voted. Votes and exported conversations are files in STUDY_DIR/chat. The
page loads nothing from elsewhere and reports to nobody. Listening beyond loopback needs a password (user 'medsft').
"""

import ipaddress
import os
import time
from pathlib import Path

from medsft.arguments import ChatArguments
from medsft.cli import UserError, parse, run

USER = "medsft"


def main() -> None:
    (args,) = parse([ChatArguments])
    password = read_password(args.password_file)
    if not is_loopback(args.host) and not password:
        raise UserError(
            f"--host {args.host} would let others in: give --password_file FILE, or set MEDSFT_PASSWORD; "
            "the default 127.0.0.1 needs none"
        )
    study = Path(args.study_dir)

    from medsft import speakers

    names = speakers.arm_names(study, args.arms)
    if not 2 <= len(names) <= 8:
        raise UserError(f"--arms {','.join(names)}: name two to eight arms to compare")
    started = time.monotonic()
    print(f"loading {', '.join(names)}")

    from medsft import chat_page, generation

    trained = next(name for name in [*names, *speakers.arm_names(study)] if name != "baseline")
    base, _, _ = generation.arm_base(generation.GenerateArguments(str(study), trained))
    voices = speakers.load(study, names, base, args.dtype)
    folder = study / "chat"
    page = chat_page.build(voices, folder, Path(args.votes) if args.votes else folder / "votes.jsonl")
    _, address, _ = page.launch(
        server_name=args.host,
        server_port=args.port or None,
        share=False,
        auth=(USER, password) if password else None,
        prevent_thread_lock=True,
        quiet=True,
        enable_monitoring=False,
        footer_links=[],
        theme=chat_page.theme(),
        css=chat_page.CSS,
    )
    print(f"ready after {time.monotonic() - started:.0f} s: open {address} (stop with Ctrl-C)", flush=True)
    page.block_thread()


def read_password(path: str | None) -> str | None:
    """The first line of the file, or MEDSFT_PASSWORD. Raises UserError for an empty or missing file."""
    if path is None:
        return os.environ.get("MEDSFT_PASSWORD") or None
    if not Path(path).is_file() or not (first := Path(path).read_text(encoding="utf-8").split("\n")[0].strip()):
        raise UserError(f"--password_file {path}: no such file, or its first line is empty")
    return first


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


if __name__ == "__main__":
    run(main, __doc__, ChatArguments)
