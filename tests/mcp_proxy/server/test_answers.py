"""The real application on a real socket: which answer, in which shape, to what."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from mcp_proxy.sandbox import Sandbox
from mcp_proxy.server import messages
from tests.e2e.harness import KEY, Proxy, message, running
from tests.faults.line import Line

ORIGIN = "https://app.test"
CORS = {"CORS_ENABLED": "true", "CORS_ALLOW_ORIGIN": ORIGIN}


@asynccontextmanager
async def proxy(home: Path, **environ: str) -> AsyncIterator[Proxy]:
    async with Sandbox(["anthropic"]) as box:
        upstream = box.account("anthropic", alias="first")
        async with running(home, box, ("anthropic", upstream), grace=0.1, environ=environ) as made:
            yield made


async def ask(made: Proxy, method: str, path: str, *, key: bool = True, **how: Any) -> httpx.Response:
    headers = how.pop("headers", {}) | ({"x-api-key": KEY} if key else {})
    async with httpx.AsyncClient(base_url=made.url, trust_env=False, verify=False) as client:
        answer = await client.request(method, path, headers=headers, **how)
    assert answer.headers["request-id"].startswith("req_"), (method, path)
    return answer


def is_error(answer: httpx.Response, status: int, kind: str) -> None:
    asked = f"{answer.request.method} {answer.request.url}"
    assert answer.status_code == status, (asked, answer.text)
    assert answer.headers["content-type"] == "application/json", asked
    document = answer.json()
    assert (document["type"], document["error"]["type"]) == ("error", kind), asked
    assert document["error"]["message"], asked
    assert document["request_id"] == answer.headers["request-id"], asked


def messages_of(made: Proxy) -> list[str]:
    """What upstreams were asked, beside their list of models in the background."""
    return [received.path for received in made.box.received if received.method == "POST"]


METHODS: dict[str, str] = {
    "/v1/messages": "POST",
    "/v1/v1/messages": "POST",
    "/v1/messages/count_tokens": "POST",
    "/v1/models": "GET",
    "/v1/models/claude-sonnet-5": "GET",
    "/health": "GET, HEAD",
    "/livez": "GET, HEAD",
    "/readyz": "GET, HEAD",
    "/account-limits": "GET",
    "/metrics": "GET",
    "/reset": "POST",
    "/refresh-token": "POST",
    "/": "HEAD",
    "/api/hello": "HEAD",
}
OPEN = {("GET", "/livez"), ("HEAD", "/livez"), ("GET", "/readyz"), ("HEAD", "/readyz"), ("GET", "/health"),
        ("HEAD", "/health"), ("HEAD", "/"), ("HEAD", "/api/hello")}  # fmt: skip
EVERY_METHOD = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


@pytest.mark.slow
async def test_every_path_with_every_method_without_a_key_and_with_one(tmp_path: Path) -> None:
    async with proxy(tmp_path) as made:
        for path, methods in METHODS.items():
            for method in EVERY_METHOD:
                closed = await ask(made, method, path, key=False, headers={"user-agent": "kube-probe/1.3"})
                if (method, path) in OPEN:
                    assert closed.status_code == 200, (method, path)
                elif path == "/health":
                    assert closed.status_code == 405
                else:
                    assert closed.status_code == 401, (method, path)
                    assert closed.headers["x-should-retry"] == "false"
                if method in methods.split(", "):
                    continue
                wrong = await ask(made, method, path)
                assert (wrong.status_code, wrong.headers["allow"]) == (405, methods), (method, path)
                if method != "HEAD":
                    is_error(wrong, 405, "invalid_request_error")
        assert messages_of(made) == [], "nothing of this is an upstream's business"


async def test_a_head_is_like_a_get_without_its_body(tmp_path: Path) -> None:
    async with proxy(tmp_path) as made:
        for path in ("/health", "/livez", "/readyz"):
            head = await ask(made, "HEAD", path)
            assert (head.status_code, head.content) == (200, b"")


NOT_HERE = [
    "/nothing",
    "/v1",
    "/v1/",
    "/v2/messages",
    "/v1/messages/x",
    "//v1/messages",
    "/v1/%2e%2e/health",
    "/v1/messages%00",
    "/v1/messages;x",
    "/docs",
    "/openapi.json",
    "/v1/models/no-such-model",
    "/v1/models/%ff",
    "/v1/models/..%2f..%2fx",
]


async def test_an_unknown_path_is_404_in_our_shape(tmp_path: Path) -> None:
    async with proxy(tmp_path) as made:
        for path in NOT_HERE:
            is_error(await ask(made, "GET", path), 404, "not_found_error")
            is_error(await ask(made, "GET", path, key=False), 401, "authentication_error")


async def test_who_is_refused_at_the_door(tmp_path: Path) -> None:
    async with proxy(tmp_path) as made:
        for headers, status, kind in [
            ({"host": "evil.test"}, 403, "permission_error"),
            ({"origin": "https://evil.test"}, 403, "permission_error"),
            ({"origin": "null"}, 403, "permission_error"),
            ({"x-api-key": "wrong"}, 401, "authentication_error"),
        ]:
            answer = await ask(
                made, "POST", "/v1/messages", key="x-api-key" not in headers, headers=headers, json=message()
            )
            is_error(answer, status, kind)
            assert "access-control-allow-origin" not in answer.headers
        assert messages_of(made) == []


async def test_browsers_of_a_listed_origin_may_read_answers_and_errors(tmp_path: Path) -> None:
    async with proxy(tmp_path, **CORS) as made:
        asking = {
            "origin": ORIGIN,
            "access-control-request-method": "POST",
            "access-control-request-headers": "x-api-key",
        }
        preflight = await ask(made, "OPTIONS", "/v1/messages", key=False, headers=asking)
        assert (preflight.status_code, preflight.content) == (204, b"")
        assert preflight.headers["access-control-allow-origin"] == ORIGIN
        assert "POST" in preflight.headers["access-control-allow-methods"]
        assert "x-api-key" in preflight.headers["access-control-allow-headers"].lower()
        assert preflight.headers["access-control-max-age"].isdigit()
        for path, status in (("/v1/models", 200), ("/nothing", 404), ("/v1/messages", 405)):
            answer = await ask(made, "GET", path, headers={"origin": ORIGIN})
            assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (status, ORIGIN)
            assert "origin" in answer.headers["vary"]
        foreign = await ask(
            made, "OPTIONS", "/v1/messages", key=False, headers=asking | {"origin": "https://evil.test"}
        )
        is_error(foreign, 403, "permission_error")
        assert "access-control-allow-origin" not in foreign.headers
        plain = await ask(made, "GET", "/v1/models")
        assert "access-control-allow-origin" not in plain.headers


async def test_a_listed_origin_without_the_key_may_read_that_it_has_none(tmp_path: Path) -> None:
    async with proxy(tmp_path, **CORS) as made:
        answer = await ask(made, "GET", "/v1/models", key=False, headers={"origin": ORIGIN})
        is_error(answer, 401, "authentication_error")


async def test_streams_and_errors_of_messages_carry_their_origin_too(tmp_path: Path) -> None:
    async with proxy(tmp_path, **CORS) as made:
        answer = await ask(made, "POST", "/v1/messages", headers={"origin": ORIGIN}, json=message(stream=True))
        assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, ORIGIN)
        assert answer.text.endswith('data: {"type":"message_stop"}\n\n')


BAD_BODIES = [b"", b"{", b"null", b"[]", b"\xff\xfe", b'{"model":1}', b'{"model":"m","model":"m"}', b"[" * 100_000,
              b'{"model":"m","stream":"yes"}', b'{"model":"\\ud800"}', b"model=m",
              b'\xef\xbb\xbf{"model":""}']  # fmt: skip


async def test_what_is_no_request_is_400_and_reaches_nobody(tmp_path: Path) -> None:
    async with proxy(tmp_path) as made:
        for body in BAD_BODIES:
            for path in ("/v1/messages", "/v1/messages/count_tokens"):
                is_error(await ask(made, "POST", path, content=body), 400, "invalid_request_error")
        is_error(await ask(made, "POST", "/v1/messages", json=message(model="no-such")), 404, "not_found_error")
        assert messages_of(made) == []


async def test_a_limit_that_is_none_is_400(tmp_path: Path) -> None:
    async with proxy(tmp_path) as made:
        for limit in ("0", "-1", "1001", "x", "1.5", "0" * 8 + "1" + "0" * 5000):
            is_error(await ask(made, "GET", f"/v1/models?limit={limit}"), 400, "invalid_request_error")


async def test_models_are_paged_and_found_by_their_id(tmp_path: Path) -> None:
    async with proxy(tmp_path) as made:
        first = (await ask(made, "GET", "/v1/models?limit=2")).json()
        assert (len(first["data"]), first["has_more"]) == (2, True)
        second = (await ask(made, "GET", f"/v1/models?limit=1000&after_id={first['last_id']}")).json()
        assert second["has_more"] is False
        ids = [entry["id"] for entry in first["data"] + second["data"]]
        assert ids == sorted(set(ids))
        for path in (f"/v1/models/{ids[0]}", f"/v1/v1/models/{ids[0]}", f"/v1/models/anthropic%2F{ids[0]}"):
            assert (await ask(made, "GET", path)).json()["type"] == "model", path


async def raw(made: Proxy) -> Line:
    return await Line(urlsplit(made.url).port or 0).open()


def head(*fields: str, path: str = "/v1/messages") -> bytes:
    lines = (f"POST {path} HTTP/1.1", "host: localhost", f"x-api-key: {KEY}", *fields)
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


async def test_a_body_too_large_is_refused_by_what_it_declares(tmp_path: Path) -> None:
    async with proxy(tmp_path) as made:
        line = await raw(made)
        await line.send(head(f"content-length: {messages.MAX_BODY_BYTES + 1}"))
        reply = await line.reply()
        assert (reply.status, reply.headers["connection"]) == (413, "close")
        assert json.loads(reply.body)["error"]["type"] == "request_too_large"
        assert await line.rest() == b""
        line.close()


async def test_a_body_too_large_is_refused_as_it_comes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messages, "MAX_BODY_BYTES", 1000)
    async with proxy(tmp_path) as made:
        line = await raw(made)
        await line.send(head("transfer-encoding: chunked"))
        for _ in range(3):
            await line.send(b"190\r\n" + b"a" * 400 + b"\r\n")
            await asyncio.sleep(0.01)
        reply = await line.reply()
        assert (reply.status, reply.headers["connection"]) == (413, "close")
        assert json.loads(reply.body)["error"]["type"] == "request_too_large"
        line.close()


async def test_half_a_body_is_waited_for_so_long_and_no_longer(tmp_path: Path) -> None:
    async with proxy(tmp_path, READ_TIMEOUT_SEC="1") as made:
        lines = [await raw(made), await raw(made)]
        await lines[0].send(head("content-length: 1000") + b"{")
        await lines[1].send(head("transfer-encoding: chunked") + b"1\r\n{\r\n")
        for line in lines:
            reply = await line.reply()
            assert (reply.status, reply.headers["connection"]) == (408, "close")
            assert json.loads(reply.body)["error"]["type"] == "timeout_error"
            line.close()
        assert messages_of(made) == []


async def test_every_origin_may_be_allowed_but_never_with_credentials(tmp_path: Path) -> None:
    async with proxy(tmp_path, CORS_ENABLED="true", CORS_ALLOW_ORIGIN="*") as made:
        answer = await made.client.get("/health", headers={"origin": "https://anybody.example"})
        assert answer.headers["access-control-allow-origin"] == "*"
        assert "access-control-allow-credentials" not in answer.headers


async def test_every_answer_to_messages_tells_of_its_way_also_where_there_was_none(tmp_path: Path) -> None:
    async with proxy(tmp_path) as made:
        for path in ("/v1/messages", "/v1/v1/messages/"):
            answers = [
                await ask(made, "POST", path, key=False),
                await ask(made, "POST", path, headers={"host": "evil.test"}),
                await ask(made, "GET", path),
                await ask(made, "POST", path, content=b"{"),
            ]
            assert [answer.status_code for answer in answers] == [401, 403, 405, 400]
            for answer in answers:
                told = {name: answer.headers.get_list(name) for name in answer.headers if name.startswith("x-proxy-")}
                assert told == {
                    "x-proxy-account": ["none"],
                    "x-proxy-model": ["none"],
                    "x-proxy-attempts": ["0"],
                    "x-proxy-reason": ["first_choice"],
                }
        assert "x-proxy-account" not in (await ask(made, "POST", "/v1/messages/count_tokens", content=b"{")).headers
        assert (await ask(made, "POST", "/v1/messages", json=message())).headers.get_list("x-proxy-attempts") == ["1"]
