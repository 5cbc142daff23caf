"""Asking the running server, with nothing heavier than the standard library."""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from accounts.exits import Exit, Trouble
from accounts.model import Secret
from mcp_proxy.settings import from_process

MAX_ANSWER = 16 * 1024 * 1024
"""Bytes; ten thousand accounts are a fraction of it."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What the server answered, whole."""

    status: int
    body: bytes

    def document(self) -> Mapping[str, Any]:
        """The JSON object of the body. Raises `Trouble`: whoever answers otherwise is not our server."""
        try:
            found = json.loads(self.body)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise Trouble(f"the answer (HTTP {self.status}) is not from this program: check the address", Exit.FAILED)
        return found


@dataclass(frozen=True, slots=True)
class Server:
    """A server at an address, asked with a key if there is one.

    base     scheme, host, port and path prefix, no slash at the end
    timeout  for connecting and for each read, seconds
    """

    base: str
    key: Secret | None
    timeout: float = 10.0

    def get(self, path: str, *, with_key: bool = True) -> Reply:
        """Ask; whatever the status. Raises `Trouble` where nobody answers."""
        return self._send("GET", path, None, with_key=with_key)

    def post(self, path: str, document: Mapping[str, Any]) -> Reply:
        """Ask for a change, and have it; 400 and 404 are answers too. Raises `Trouble`."""
        reply = self._send("POST", path, json.dumps(document).encode(), with_key=True)
        return self.checked(reply, path, (200, 400, 404))

    def _send(self, method: str, path: str, body: bytes | None, *, with_key: bool) -> Reply:
        parts = urlsplit(self.base)
        make = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        connection = make(parts.hostname or "", parts.port, timeout=self.timeout)
        headers = {"user-agent": "multi-claude-proxy"}
        if with_key and self.key is not None:
            headers["x-api-key"] = self.key.reveal()
        try:
            connection.request(method, parts.path + path, body, headers)
            response = connection.getresponse()
            return Reply(response.status, response.read(MAX_ANSWER))
        except (OSError, http.client.HTTPException) as error:
            why = error.strerror if isinstance(error, OSError) and error.strerror else "no answer"
            raise Trouble(f"no server reachable at {self.base} ({why.lower()})", Exit.UNREACHABLE) from None
        finally:
            connection.close()

    def ask(self, path: str) -> Reply:
        """Ask for something that needs the key, and have it. Raises `Trouble`."""
        return self.checked(self.get(path), path)

    def checked(self, reply: Reply, path: str, expected: tuple[int, ...] = (200,)) -> Reply:
        """A reply that is what was asked for. Raises `Trouble`."""
        if reply.status == 401:
            why = "refused the key in PROXY_API_KEY" if self.key else "needs a key: set PROXY_API_KEY"
            raise Trouble(f"the server at {self.base} {why}", Exit.SIGN_IN)
        if reply.status not in expected:
            raise Trouble(f"the server at {self.base} answered HTTP {reply.status} to {path}", Exit.FAILED)
        return reply


def server_at(url: str | None, config: str | None, env_file: str | None) -> Server:
    """The server that a command's flags, the environment and the config file lead to. Raises `SettingsError`."""
    found = from_process({"url": url, "config": config, "env_file": env_file}).server
    return Server(found.reachable_at, found.api_key)
