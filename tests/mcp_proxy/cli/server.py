"""A server of canned answers on loopback, in place of the real one."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = "sk-fake-proxy-key"


class Canned:
    """Answers by path; every request's path and key are noted.

    open_paths  are answered without a key
    """

    def __init__(self, answers: dict[str, tuple[int, Any]], open_paths: tuple[str, ...]) -> None:
        self.answers = answers
        self.open_paths = open_paths
        self.asked: list[tuple[str, str | None]] = []
        self.sent: list[bytes] = []
        self.url = ""

    def answer(self, path: str, key: str | None) -> tuple[int, Any]:
        self.asked.append((path, key))
        if key != KEY and path not in self.open_paths:
            return 401, {"type": "error", "error": {"type": "authentication_error", "message": "no"}}
        return self.answers.get(path, (404, {}))


@contextmanager
def canned(answers: dict[str, tuple[int, Any]], open_paths: tuple[str, ...] = ()) -> Iterator[Canned]:
    told = Canned(answers, open_paths)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = told.answer(self.path, self.headers.get("x-api-key"))
            raw = body.encode() if isinstance(body, str) else json.dumps(body).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        def do_POST(self) -> None:
            told.sent.append(self.rfile.read(int(self.headers.get("content-length", "0"))))
            self.do_GET()

        def log_message(self, format: str, *args: object) -> None:
            """Tests want no log."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    told.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield told
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
