"""JSON over HTTP with a server of a model: its key, connections that notice a lost machine, no proxy for this one."""

import http.client
import json
import os
import re
import socket
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import urlparse

from medsft.records import Json

LOOPBACK = ("127.0.0.1", "localhost", "::1")
KEY = "MEDSFT_ENDPOINT_KEY"  # environment variable with the servers' key, where they want one
PATIENCE = 3600  # seconds for one answer, which may wait behind many others
QUIET, EVERY, TIMES = 30, 10, 3  # seconds without a byte, then between probes, and how many of them: a minute in all


def request(address: str, body: Json | None = None) -> Json:
    """The reply as JSON: to a GET without a `body`, else to a POST.

    Raises OSError (an HTTPError for a status from 400) where there is no answer, ValueError where it is not JSON. A
    machine that lost its power answers no probe of TCP: that is an OSError after a minute, not after `PATIENCE`.
    """
    headers = {"Content-Type": "application/json"}
    if os.environ.get(KEY):
        headers["Authorization"] = f"Bearer {os.environ[KEY]}"
    data = None if body is None else json.dumps(body).encode()
    # a proxy of the environment must not see what goes from this machine to itself
    proxies = [urllib.request.ProxyHandler({})] if urlparse(address).hostname in LOOPBACK else []
    opener = urllib.request.build_opener(_Http(), _Https(), *proxies)
    try:
        with opener.open(urllib.request.Request(address, data, headers), timeout=PATIENCE) as response:
            reply: Json = json.load(response)
    except http.client.HTTPException as error:  # such as a reply that ends in the middle
        raise OSError(f"{type(error).__name__}: {error}") from error
    return reply


def refusal(error: urllib.error.HTTPError) -> str:
    """What a server says of its refusal, without what it quotes: that may be the patient's words."""
    said = error.read().decode("utf-8", "replace")
    try:
        body = json.loads(said)
        inner = body.get("error", body)
        said = str(inner.get("message", "") if isinstance(inner, dict) else inner)
    except (ValueError, AttributeError):
        return "no reason that can be read"
    return re.sub(r"(['\"]).*?\1", "...", said.split("'input'")[0].split('"input"')[0], flags=re.DOTALL)[:200]


def _probe(connection: http.client.HTTPConnection) -> None:
    connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", QUIET), ("TCP_KEEPINTVL", EVERY), ("TCP_KEEPCNT", TIMES)):
        if hasattr(socket, name):  # Linux
            connection.sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


class _Connection(http.client.HTTPConnection):
    def connect(self) -> None:
        super().connect()
        _probe(self)


class _SafeConnection(http.client.HTTPSConnection):
    def connect(self) -> None:
        super().connect()
        _probe(self)


class _Http(urllib.request.HTTPHandler):
    def http_open(self, req: urllib.request.Request) -> Any:
        return self.do_open(_Connection, req)


class _Https(urllib.request.HTTPSHandler):
    def https_open(self, req: urllib.request.Request) -> Any:
        return self.do_open(_SafeConnection, req)
