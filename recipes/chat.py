"""Talk to two or more arms of a study side by side in a browser, on this machine only.

    python recipes/chat.py --study_dir runs/demo
    python recipes/chat.py --study_dir runs/demo --arms baseline,lora --port 7861
    python recipes/chat.py --study_dir runs/demo --review_only true
    python recipes/chat.py --study_dir runs/demo --endpoint http://127.0.0.1:8000/v1 http://127.0.0.1:8001/v1
    MEDSFT_PASSWORD=... python recipes/chat.py --study_dir runs/demo --host 0.0.0.0

Arms are shown as letters until you have voted. Votes and exported conversations are files in STUDY_DIR/chat. A second
page is the blinded review of the answers that review.py has drawn; --review_only serves it alone, without a model.
Servers with OpenAI's interface answer for the arms that they serve by name (--endpoint), llama.cpp for GGUF exports
such as lora_q8, and all others are loaded here. The pages load nothing from elsewhere, and what is typed goes to no
other machine without --allow_remote. Listening beyond loopback needs a password (user 'medsft').
"""

import ipaddress
import os
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING

from medsft.arguments import ChatArguments, GenerateArguments
from medsft.cli import run
from medsft.config import parse
from medsft.errors import UserError
from medsft.study import lineage
from medsft.study.names import existing_study

if TYPE_CHECKING:
    import gradio as gr

USER = "medsft"
THREADS = 100  # as many users wait for a server's answer at once


def main() -> None:
    (args,) = parse([ChatArguments])
    password = read_password(args.password_file)
    if not is_loopback(args.host) and not password:
        raise UserError(
            f"--host {args.host} would let others in: give --password_file FILE, or set MEDSFT_PASSWORD; "
            "the default 127.0.0.1 needs none"
        )
    study = existing_study(args.study_dir)
    check_port(args.host, args.port)
    started = time.monotonic()
    page = review_alone(study) if args.review_only else arms_side_by_side(args, study)

    from medsft.serving import page_style

    _, address, _ = page.launch(
        server_name=args.host,
        server_port=args.port or None,
        share=False,
        auth=(USER, password) if password else None,
        prevent_thread_lock=True,
        max_threads=THREADS,
        quiet=True,
        enable_monitoring=False,
        footer_links=[],
        theme=page_style.theme(),
        css=page_style.CSS,
    )
    print(f"ready after {time.monotonic() - started:.0f} s: open {address} (stop with Ctrl-C)", flush=True)
    page.block_thread()


def arms_side_by_side(args: ChatArguments, study: Path) -> "gr.Blocks":
    """The chat page over the loaded arms, with the review page beside it."""
    from medsft.inference import adapter_pool, generation, served_arms
    from medsft.inference.llama_cpp import source_arm

    known = adapter_pool.arm_names(study, args.arms)
    trained = next(name for name in adapter_pool.arm_names(study) if name != "baseline")
    base, _, _ = generation.arm_base(GenerateArguments(str(study), trained))
    served = served_arms.served_at(args.endpoint, base, args.allow_remote)
    served_arms.check_some(served, known)
    names = known if args.arms or not served else [name for name in known if name in served]
    if not 2 <= len(names) <= 8:
        raise UserError(f"--arms {','.join(names)}: name two to eight arms to compare")
    quantized = [name for name in names if name in served_arms.quantized(study) and name not in served]
    here = [name for name in names if name not in served and name not in quantized]
    lineage.check_trained(study, [source_arm(GenerateArguments(arm=name, engine="gguf")) for name in names])
    print(f"loading {', '.join(here + quantized) or 'nothing'}; served: {', '.join(n for n in names if n in served)}")

    from medsft.serving import chat_app, review_app

    system = adapter_pool.system_of(study)
    pool: chat_app.Pool = {**adapter_pool.load(study, here, base, args.dtype)}
    pool |= {name: served_arms.load_quantized(study, name, system) for name in quantized}
    pool |= {n: served_arms.connect(study, n, base, served[n], system) for n in names if n in served}
    pool = {name: pool[name] for name in names}
    folder = study / "chat"
    weights = {n: str(lineage.weights_of(study, source_arm(GenerateArguments(arm=n, engine="gguf")))) for n in names}
    title = f"{Path(base).name}: {len(names)} arms of study {study.resolve().name}"
    page = chat_app.build(pool, folder, Path(args.votes) if args.votes else folder / "votes.jsonl", title, weights)
    review_app.add(page, study / "review")
    return page


def review_alone(study: Path) -> "gr.Blocks":
    """The review page without any arm. Raises UserError where there is no review form."""
    if not [*study.glob("review/*_sheet.csv")]:
        raise UserError(
            f"{study}/review: no review form to rate; draw one: recipes/review.py --study_dir {study} --arm ARM"
        )

    from medsft.serving import review_app

    return review_app.alone(study / "review")


def read_password(path: str | None) -> str | None:
    """The first line of the file, or MEDSFT_PASSWORD. Raises UserError for an empty or missing file."""
    if path is None:
        return os.environ.get("MEDSFT_PASSWORD") or None
    if not Path(path).is_file() or not (first := Path(path).read_text(encoding="utf-8").split("\n")[0].strip()):
        raise UserError(f"--password_file {path}: no such file, or its first line is empty")
    return first


def check_port(host: str, port: int) -> None:
    """Raise UserError where the port is taken or refused, before a model is loaded. Port 0 takes a free one."""
    if not 0 <= port <= 65_535:
        raise UserError(f"--port {port}: give a number from 1 to 65535, or 0 for a free one")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does: a port just left is free
        try:
            probe.bind((host, port))
        except OSError as error:
            raise UserError(
                f"--host {host} --port {port}: {str(error.strerror).lower()}; another page may be open there: "
                f"stop it, or give --port {port + 1}, or --port 0 for a free one"
            ) from error


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


if __name__ == "__main__":
    run(main, __doc__, ChatArguments)
