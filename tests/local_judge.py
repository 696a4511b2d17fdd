"""An OpenAI-compatible endpoint of this process, for the tests that let a judge answer."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer


class LocalJudge(BaseHTTPRequestHandler):
    """Answers each question by `answer`, which a test's own class gives."""

    def answer(self, question: str) -> str:
        raise NotImplementedError

    def do_POST(self) -> None:  # noqa: N802 - the name that http.server calls
        question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["messages"][0]["content"]
        body = json.dumps({"choices": [{"message": {"content": self.answer(question)}}]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving(judge: type[LocalJudge]) -> Iterator[str]:
    """The address of a server of this class, which ends with the block."""
    server = HTTPServer(("127.0.0.1", 0), judge)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
