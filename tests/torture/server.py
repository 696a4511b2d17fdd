"""The chat page with fifty clients at once, and with clients that never finish their request."""

import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from kills import outcome
from stage import RECIPES, ROOT

from retries import note_retry

CLIENTS, SLOW = 50, 50
WITHIN = 60  # seconds in which every client must be served
CONNECT = 60  # seconds to connect, and to wait for an answer to a broken request


def chat(study: Path) -> list[dict[str, Any]]:
    """Every client gets the page and its settings within a minute: before, beside and after the slow ones."""
    process, address = _start(study)
    faults: list[str] = []
    slow: list[socket.socket] = []
    try:
        faults += _all_served(address, "alone")
        host, port = re.match(r"http://([^:]+):(\d+)", address).groups()  # type: ignore[union-attr]
        for number in range(SLOW):  # an unfinished header, an unfinished body, silence
            client = socket.create_connection((host, int(port)), timeout=CONNECT)
            start = (
                b"GET / HTTP/1.1\r\nHost: x\r\nX-",
                b"POST /gradio_api/queue/join HTTP/1.1\r\nContent-Length: 99\r\n\r\n{",
                b"",
            )
            client.sendall(start[number % 3])
            slow.append(client)
        faults += _all_served(address, f"beside {SLOW} slow clients")
        for bad in (b"\x00" * 4096, b"GET /../../etc/passwd HTTP/1.1\r\n\r\n", b"GET /" + b"a" * 100_000):
            with socket.create_connection((host, int(port)), timeout=CONNECT) as client:
                client.sendall(bad)
                client.settimeout(5)
                try:
                    if b"root:" in client.recv(65536):
                        faults.append("a file of the machine was served")
                except OSError:
                    pass
        for path in ("gradio_api/file=/etc/passwd", "file=/etc/passwd", f"gradio_api/file={study}/lora/train.json"):
            if _get(address + path)[0] == 200:
                faults.append(f"{path} was served")
        faults += _all_served(address, "after broken requests")
        if process.poll() is not None:
            faults.append(f"the server ended with {process.returncode}")
    finally:
        for client in slow:
            client.close()
        process.terminate()
        process.wait(timeout=300)
    return [outcome("concurrent and slow clients", "chat", 3 * CLIENTS + SLOW, faults)]


def _start(study: Path) -> tuple[subprocess.Popen[str], str]:
    command = [sys.executable, str(RECIPES / "chat.py"), "--study_dir", str(study), "--port", "0"]
    environment = {**os.environ, "NO_PROXY": "*", "HF_HUB_OFFLINE": "1"}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if found := re.search(r"open (http\S+)", line):
            return process, found[1]
    raise SystemExit(f"chat.py ended with {process.wait()}")


def _all_served(address: str, when: str) -> list[str]:
    """What went wrong where not every client was served in time; tried once more before that is a fault."""
    first = _serve_all(address, when)
    if not first:
        return []
    note_retry("chat server", first)
    second = _serve_all(address, when)
    return [f"{second}, twice"] if second else []


def _serve_all(address: str, when: str) -> str:
    started = time.monotonic()
    with ThreadPoolExecutor(CLIENTS) as clients:
        answers = list(clients.map(_get, [address, address + "config"] * (CLIENTS // 2)))
    bad = [status for status, _ in answers if status != 200]
    pages = [body for status, body in answers[1::2] if status == 200 and "components" not in json.loads(body)]
    seconds = time.monotonic() - started
    print(f"  {CLIENTS} clients {when}: {seconds:.1f} s", flush=True)
    if bad:
        return f"{when}: {len(bad)} of {CLIENTS} not served, for example {bad[0]}"
    return f"{when}: not the page" if pages else ""


def _get(address: str) -> tuple[Any, str]:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(address, timeout=WITHIN) as answer:
            return answer.status, answer.read().decode("utf-8", "replace")
    except Exception as error:
        return getattr(error, "code", error), ""
