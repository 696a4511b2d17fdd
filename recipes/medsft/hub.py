"""The model hub and the cache folder: what is on this machine, and whether the hub can be reached."""

import os
import socket
import threading
from pathlib import Path
from urllib.parse import SplitResult, urlsplit
from urllib.request import getproxies, proxy_bypass


def cache_folder() -> Path:
    """Where converted models and compiled operators are kept: $MEDSFT_CACHE, or ~/.cache/medsft."""
    return Path(os.environ.get("MEDSFT_CACHE", Path.home() / ".cache" / "medsft"))


def hub_reachable(timeout: float = 3) -> bool:
    """Whether a TCP connection to the model hub (or to the proxy in front of it) opens. No data is sent."""
    if os.environ.get("HF_HUB_OFFLINE", "").lower() in {"1", "true", "yes", "on"}:
        return False
    hub = urlsplit(os.environ.get("HF_ENDPOINT") or "https://huggingface.co")
    proxy = None if proxy_bypass(hub.hostname or "") else getproxies().get(hub.scheme)
    target = urlsplit(proxy) if proxy else hub
    answers: list[bool] = []
    # In a thread of its own, because looking up the name has no time limit and may hang behind a firewall.
    thread = threading.Thread(target=lambda: answers.append(_connects(target, timeout)), daemon=True)
    thread.start()
    thread.join(timeout)
    return answers == [True]


def _connects(target: SplitResult, timeout: float) -> bool:
    try:
        port = target.port or (443 if target.scheme == "https" else 80)
        with socket.create_connection((target.hostname, port), timeout=timeout):
            return True
    except (OSError, ValueError):
        return False
