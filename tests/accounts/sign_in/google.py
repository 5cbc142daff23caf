"""A Google of our own on loopback: its sign-in page, its token endpoint, and who somebody is.

It is strict where the real one is: a code is good once, with its verifier, its redirect address and its client. What is
asked for in `trouble` goes wrong, by the address it goes wrong at. Also a browser: `python -m … ADDRESS`.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlencode, urlsplit

from accounts.model import BrowserSignIn, OAuthClient, Secret

CLIENT = OAuthClient("client-0001.example", Secret("sk-fake-client-secret"))
SCOPES = ("https://scopes.example/one", "https://scopes.example/two")
PORT = 51121
SCRIPT = "<script>alert(1)</script>"


@dataclass
class Google:
    """What it was asked, what it knows, and what goes wrong.

    trouble  by path, what is answered instead: a status with a body, or "hang" or "cut"
    answers  what the token endpoint adds to a good answer, or (None) leaves out of it
    denies   the person refuses on the page
    """

    url: str
    email: str = "someone@example.com"
    trouble: dict[str, object] = field(default_factory=dict)
    answers: dict[str, object] = field(default_factory=dict)
    who: object = None
    denies: bool = False
    exchanges: list[dict[str, list[str]]] = field(default_factory=list)
    issued: dict[str, dict[str, str]] = field(default_factory=dict)
    over: threading.Event = field(default_factory=threading.Event)

    def recipe(self, port: int = PORT, **fields: object) -> BrowserSignIn:
        given: dict[str, object] = {
            "authorize_url": f"{self.url}/auth",
            "token_url": f"{self.url}/token",
            "userinfo_url": f"{self.url}/userinfo",
            "scopes": SCOPES,
            "parameters": {"access_type": "offline", "prompt": "consent"},
            "port": port,
            "path": "/oauth-callback",
            "client_names": ("GOOGLE_CLIENT_ID", "GOOGLE_CLIENT_SECRET"),
        }
        return BrowserSignIn(**{**given, **fields})  # type: ignore[arg-type]

    def code_for(self, page: str) -> str:
        """The code that the page gives to a person who agrees."""
        asked = {name: values[0] for name, values in parse_qs(urlsplit(page).query, strict_parsing=True).items()}
        assert asked["response_type"] == "code"
        assert asked["code_challenge_method"] == "S256"
        assert (asked["access_type"], asked["prompt"]) == ("offline", "consent")
        assert asked["scope"].split() == list(SCOPES)
        code = f"4/0A{secrets.token_hex(16)}"
        self.issued[code] = asked
        return code

    def callback(self, page: str, **fields: str) -> str:
        """Where the page sends the browser."""
        asked = parse_qs(urlsplit(page).query)
        answer = {"error": "access_denied"} if self.denies else {"code": self.code_for(page)}
        query = {"state": asked["state"][0], **answer, "scope": "email profile", "authuser": "0", **fields}
        return f"{asked['redirect_uri'][0]}?{urlencode(query)}"

    def token(self, form: dict[str, list[str]]) -> tuple[int, dict[str, object]]:
        said = {name: values[0] for name, values in form.items()}
        assert CLIENT.secret is not None
        if (said.get("client_id"), said.get("client_secret")) != (CLIENT.id, CLIENT.secret.reveal()):
            return 401, {"error": "invalid_client", "error_description": "The OAuth client was not found."}
        if said.get("grant_type") != "authorization_code":
            return 400, {"error": "unsupported_grant_type"}
        asked = self.issued.pop(said.get("code", ""), None)
        digest = hashlib.sha256(said.get("code_verifier", "").encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        if (
            asked is None
            or asked["code_challenge"] != challenge
            or (asked["redirect_uri"] != said.get("redirect_uri") or asked["client_id"] != said["client_id"])
        ):
            return 400, {"error": "invalid_grant", "error_description": f"Bad code {said.get('code')}\x1b[31m"}
        number = len(self.exchanges)
        good = {
            "access_token": f"sk-fake-access-{number}",
            "expires_in": 3599,
            "refresh_token": f"sk-fake-refresh-{number}",
            "token_type": "Bearer",
            **self.answers,
        }
        return 200, {name: value for name, value in good.items() if value is not None}


class _Desk(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, format: str, *args: object) -> None: ...

    def do_GET(self) -> None:
        google, path = self.server.google, urlsplit(self.path).path
        if self._goes_wrong(path):
            return
        if path == "/auth":
            self._say(302, b"", location=google.callback(f"{google.url}{self.path}"))
        elif path == "/userinfo" and self.headers.get("authorization", "").startswith("Bearer sk-fake-access-"):
            self._say(200, json.dumps(google.who or {"id": "1030", "email": google.email}).encode())
        else:
            self._say(401, b"{}")

    def do_POST(self) -> None:
        google = self.server.google
        form = parse_qs(self.rfile.read(int(self.headers.get("content-length", "0"))).decode())
        google.exchanges.append(form)
        if self._goes_wrong("/token"):
            return
        status, answer = google.token(form)
        self._say(status, json.dumps(answer).encode())

    def _goes_wrong(self, path: str) -> bool:
        trouble = self.server.google.trouble.get(path)
        if trouble is None:
            return False
        if trouble == "hang":
            self.server.google.over.wait(30)
            self.close_connection = True
        elif trouble == "cut":
            self.wfile.write(b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 900\r\n\r\n{"acc')
            self.close_connection = True
        else:
            assert isinstance(trouble, tuple)
            status, body, *headers = trouble
            self._say(status, body, **dict(headers))
        return True

    def _say(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"content-type": "application/json", **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class _Server(ThreadingHTTPServer):
    daemon_threads = False
    google: Google

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that left early is the client's business here."""


@contextmanager
def running() -> Iterator[Google]:
    """Google, on a port of its own."""
    server = _Server(("127.0.0.1", 0), _Desk)
    server.google = Google(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server.google
    finally:
        server.google.over.set()
        server.shutdown()
        thread.join()
        server.server_close()


def browse(address: str) -> tuple[int, str]:
    """What a browser that follows the address ends on."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(address, timeout=20) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


if __name__ == "__main__":
    browse(sys.argv[1])
