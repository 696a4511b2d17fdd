"""A server with OpenAI's chat interface and no model, for what asks a served model: each answer repeats the question.

    python tests/stand_in_server.py PORT MODEL

It counts the tokens of a dialogue as the embedded model's tokenizer does, so that it is not refused for its template.
"""

import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class StandIn(ThreadingHTTPServer):
    """`asked` counts the questions; from the `dies_after`th on every connection is closed without a reply, and from the
    `fails_after`th on the status is 500. Each answer takes `seconds`.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, model: str, port: int = 0, seconds: float = 0.0, **faults: int) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        from medsft.models import embedded, loading

        self.model, self.seconds = model, seconds
        self.dies_after, self.fails_after = faults.get("dies_after"), faults.get("fails_after")
        self.tokenizer = loading.load_tokenizer(embedded.SMOLLM2)
        self.lock, self.asked = threading.Lock(), Counter[str]()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    def handle_error(self, *_: object) -> None:
        pass


class Handler(BaseHTTPRequestHandler):
    server: StandIn

    def do_GET(self) -> None:  # noqa: N802 - the name that http.server calls
        if self.path == "/v1/models":
            self.reply(200, {"data": [{"id": self.server.model}]})
        else:
            self.reply(404, {"error": "no such page"})

    def do_POST(self) -> None:  # noqa: N802
        from medsft.tokenization.chat_template import prompt_ids

        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        text = asked["messages"][-1]["content"]
        probing = asked["max_tokens"] == 1
        with self.server.lock:
            self.server.asked[text] += not probing
            count = 0 if probing else self.server.asked.total()
            ids = prompt_ids(self.server.tokenizer, asked["messages"])
        if self.server.dies_after is not None and count > self.server.dies_after:
            self.close_connection = True
            return
        if self.server.fails_after is not None and count > self.server.fails_after:
            self.reply(500, {"error": "out of memory"})
            return
        time.sleep(self.server.seconds)
        message = {"role": "assistant", "content": said(self.server.model, text)}
        choice = {"message": message, "finish_reason": "stop"}
        self.reply(200, {"choices": [choice], "usage": {"prompt_tokens": len(ids)}})

    def reply(self, status: int, body: dict[str, Any]) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


def said(model: str, text: str) -> str:
    """The answer to a question."""
    return f"{model} read: {' '.join(text.split())} (the end)"


@contextmanager
def serving(model: str, **options: Any) -> Iterator[StandIn]:
    """A server of this process, which ends with the block."""
    server = StandIn(model, **options)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


if __name__ == "__main__":
    StandIn(sys.argv[2], int(sys.argv[1])).serve_forever()
