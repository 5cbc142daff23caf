"""K1 to K8: who may ask, on a real socket in front of a real application.

The tables of the three questions at the door, as values, are in `tests/mcp_proxy/server/test_auth.py`; here is what a
client and an upstream see of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
import math
import os
import random
import statistics
import subprocess
import time
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from mcp_proxy.gateway.gateway import Gateway
from mcp_proxy.sandbox import Sandbox
from mcp_proxy.server import auth
from mcp_proxy.server.app import build_app
from mcp_proxy.server.auth import Denial, Door
from mcp_proxy.server.knocks import MAX_PEERS, PER_SECONDS, WRONG_KEYS, Knocks, TooMany, neighbourhood
from tests.e2e.harness import KEY, Proxy, message, running
from tests.e2e.test_process import PROXY, environment, free_port
from tests.faults.line import Line, Reply

ORIGIN = "https://app.test"
CORS = {"CORS_ENABLED": "true", "CORS_ALLOW_ORIGIN": ORIGIN}
BODY = json.dumps(message()).encode()


@contextlib.asynccontextmanager
async def proxy(home: Path, **environ: str) -> AsyncIterator[Proxy]:
    async with Sandbox(["anthropic"]) as box:
        account = box.account("anthropic", alias="a", windows=())
        async with running(home, box, ("anthropic", account), grace=0.1, environ=environ) as made:
            yield made


async def ask(
    made: Proxy,
    *fields: bytes,
    method: str = "POST",
    path: str = "/v1/messages",
    body: bytes | None = None,
    version: str = "1.1",
) -> Reply:
    """One request of these header lines, bytes as they are, on a connection of its own."""
    sent = BODY if body is None and method == "POST" else body or b""
    lines = [f"{method} {path} HTTP/{version}".encode("latin-1"), *fields, b"content-length: %d" % len(sent)]
    line = await Line(made.port).open()
    try:
        await line.send(b"\r\n".join(lines) + b"\r\n\r\n" + sent)
        return await line.reply(head=method == "HEAD")
    finally:
        line.close()


HOST = b"host: localhost"
RIGHT = f"x-api-key: {KEY}".encode()


def is_error(reply: Reply, status: int, kind: str) -> None:
    assert (reply.status, reply.complete) == (status, True), reply
    told = json.loads(reply.body)
    assert (told["type"], told["error"]["type"]) == ("error", kind), told
    assert told["error"]["message"] and told["request_id"] == reply.headers["request-id"]
    assert KEY not in reply.body.decode()


def asked_of(made: Proxy) -> list[Any]:
    assert made.box is not None
    return [each for each in made.box.received if each.method == "POST"]


NO_KEYS = [
    [],
    [b"x-api-key:"],
    [b"x-api-key: wrong"],
    [b"x-api-key: " + KEY[:-1].encode()],
    [b"x-api-key: " + KEY.encode() + b"1"],
    [b"x-api-key: " + KEY.encode() + b"\xff"],
    [b"x-api-key: \xff\xfe\xfd"],
    [b"x-api-key: " + KEY.encode("utf-16-le")[:8].replace(b"\0", b"\x80")],
    [b"x-api-key: $PROXY_API_KEY"],
    [b"x-api-key: ${PROXY_API_KEY}"],
    [b"x-api-key: " + KEY.encode() + b"," + KEY.encode()],
    [b"authorization: Basic " + KEY.encode()],
    [b"authorization: Bearer"],
    [b"authorization: Bearer Bearer " + KEY.encode()],
    [b"authorization: " + KEY.encode()],
    [b"proxy-authorization: Bearer " + KEY.encode()],
    [b"cookie: x-api-key=" + KEY.encode()],
    [b"x-api-key: " + b"k" * 20_000],
]
KEYS_BESIDE = [
    [RIGHT],
    [RIGHT, RIGHT],
    [b"X-API-KEY: " + KEY.encode()],
    [b"x-api-key: wrong-one", RIGHT],
    [RIGHT, b"x-api-key: wrong-one"],
    [b"authorization: Bearer wrong-one", RIGHT],
    [b"authorization: Bearer " + KEY.encode(), b"x-api-key: wrong-one"],
    [b"x-proxy-api-key: " + KEY.encode(), b"authorization: Bearer wrong-one", b"x-api-key: \xff\xfe"],
    [RIGHT, b"authorization: Bearer " + KEY.encode()],
]


async def test_without_the_key_nobody_is_asked_and_with_it_what_else_was_sent_stays_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """K1."""
    monkeypatch.setattr("mcp_proxy.server.knocks.WRONG_KEYS", 100)
    async with proxy(tmp_path) as made:
        for fields in NO_KEYS:
            reply = await ask(made, HOST, *fields)
            is_error(reply, 401, "authentication_error")
            assert reply.headers["x-should-retry"] == "false", fields
        assert asked_of(made) == []
        for fields in KEYS_BESIDE:
            reply = await ask(made, HOST, *fields)
            assert reply.status == 200, (fields, reply)
            arrived = asked_of(made)[-1].headers
            assert [value for name, value in arrived if name.lower() == "x-api-key"] == [made.box.accounts[0].key]  # type: ignore[union-attr]
            assert not {"authorization", "x-proxy-api-key"} & {name.lower() for name, _ in arrived}
            assert KEY not in str(arrived) and "wrong-one" not in str(arrived)


async def test_every_key_that_comes_over_the_wire_is_compared_in_constant_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """K2."""
    compared: list[bytes] = []

    class Spy:
        @staticmethod
        def compare_digest(given: bytes, key: bytes) -> bool:
            compared.append(given)
            return hmac.compare_digest(given, key)

    monkeypatch.setattr(auth, "hmac", Spy)
    async with proxy(tmp_path) as made:
        assert (await ask(made, HOST, b"x-api-key: one", RIGHT, b"authorization: Bearer two")).status == 200
        assert (await ask(made, HOST, b"x-proxy-api-key: three")).status == 401
        assert compared == [b"one", KEY.encode(), b"two", b"three"]


def welch(one: list[float], other: list[float]) -> float:
    """Welch's t of two samples."""
    spread = statistics.variance(one) / len(one) + statistics.variance(other) / len(other)
    return abs(statistics.fmean(one) - statistics.fmean(other)) / math.sqrt(max(spread, 1e-9))


@pytest.mark.soak
def test_how_much_of_a_wrong_key_is_right_takes_no_other_time() -> None:
    """K2."""
    key = os.urandom(16).hex().encode()
    door = Door(key)
    rng = random.Random(2)
    best = 9.0
    for _ in range(3):  # a machine at work may disturb one round
        medians: dict[int, list[float]] = {0: [], 8: [], 31: []}
        for _ in range(100):
            took: dict[int, list[int]] = {shared: [] for shared in medians}
            for _ in range(600):
                shared = rng.choice((0, 8, 31))
                # made anew each time, or it were the place in memory that is measured
                wrong = key[:shared] + bytes([key[shared] ^ 1]) + rng.randbytes(16).hex().encode()[shared + 1 :]
                headers = [(b"host", b"localhost"), (b"x-api-key", wrong)]
                begun = time.perf_counter_ns()
                found = door.admit("POST", "/v1/messages", headers)
                took[shared].append(time.perf_counter_ns() - begun)
                assert isinstance(found, Denial)
            for shared, each in took.items():
                medians[shared].append(statistics.median(each))
        pairs = [(medians[0], medians[8]), (medians[0], medians[31]), (medians[8], medians[31])]
        best = min(best, max(welch(*pair) for pair in pairs))
    assert best < 4


@pytest.mark.parametrize(
    "environ",
    [{"PROXY_API_KEY": ""}, {"BIND_ADDRESS": "0.0.0.0", "PROXY_API_KEY": ""}, {"PROXY_API_KEY_FILE": "empty"}],
    ids=["empty", "empty, for the whole network", "an empty file"],
)
def test_without_a_key_it_does_not_start_and_says_why(tmp_path: Path, environ: dict[str, str]) -> None:
    """K3."""
    port = str(free_port())
    env = environment(tmp_path, **environ)
    if "PROXY_API_KEY_FILE" in environ:
        (tmp_path / "empty").write_text("\n")
        del env["PROXY_API_KEY"]
        env["PROXY_API_KEY_FILE"] = str(tmp_path / "empty")
    run = subprocess.run([*PROXY, "serve", "--port", port], env=env, capture_output=True, text=True, timeout=30)
    assert (run.returncode, run.stdout) == (2, "")
    assert "PROXY_API_KEY" in run.stderr and len(run.stderr.splitlines()) <= 2
    assert "Traceback" not in run.stderr


FOREIGN = [
    # head lines · status
    ([b"host: evil.test"], 403),
    ([b"host: evil.test:8080"], 403),
    ([b"host: localhost.evil.test"], 403),
    ([b"host: proxy.lan"], 403),
    ([b"host:"], 403),
    ([b"host: localhost", b"host: evil.test"], 400),
    ([b"host: evil.test", b"host: localhost"], 400),
    ([], 400),
    ([b"host: evil.test", b"x-forwarded-host: localhost", b"forwarded: host=localhost"], 403),
    ([b"host: rebound.evil.test", b"sec-fetch-site: same-origin", b"referer: http://rebound.evil.test/"], 403),
]


async def test_a_foreign_host_is_refused_before_key_and_path_are_looked_at(tmp_path: Path) -> None:
    """K4."""
    paths = [("POST", "/v1/messages"), ("GET", "/livez"), ("GET", "/health"), ("GET", "/docs"), ("GET", "/nothing")]
    async with proxy(tmp_path) as made:
        for fields, status in FOREIGN:
            for method, path in paths:
                for key in ([], [RIGHT], [b"x-api-key: wrong"]):
                    reply = await ask(made, *fields, *key, method=method, path=path)
                    is_error(reply, status, "permission_error" if status == 403 else "invalid_request_error")
        assert (await ask(made, RIGHT, version="1.0")).status == 403, "HTTP/1.0 may leave the Host out, we do not"
        assert asked_of(made) == []
        for host in (b"localhost", b"127.0.0.1:1", b"[::1]:8080"):
            assert (await ask(made, b"host: " + host, RIGHT)).status == 200


async def test_an_absolute_address_in_the_request_line_counts_for_more_than_the_host(tmp_path: Path) -> None:
    """K4."""
    async with proxy(tmp_path) as made:
        reply = await ask(made, b"host: localhost", RIGHT, path="http://evil.test/v1/messages")
        assert reply.status in (400, 403, 404)
        assert asked_of(made) == []


FORM = b"application/x-www-form-urlencoded"


async def test_a_foreign_page_can_neither_write_nor_read(tmp_path: Path) -> None:
    """K5: what a browser sends for a page without asking first, as it sends it."""
    async with proxy(tmp_path) as made:
        for origin in (b"https://evil.test", b"null", b"http://localhost:1", b"http://127.0.0.1"):
            for kind in (b"text/plain", FORM, b"multipart/form-data; boundary=x", b"application/json"):
                for key in ([], [RIGHT]):
                    reply = await ask(made, HOST, b"origin: " + origin, b"content-type: " + kind, *key)
                    is_error(reply, 403, "permission_error")
                    assert not [name for name in reply.headers if name.startswith("access-control-")]
            for path in ("/refresh-token", "/v1/messages/count_tokens"):
                assert (await ask(made, HOST, b"origin: " + origin, RIGHT, path=path)).status == 403
        for path in ("/account-limits?refresh=true", "/v1/models", "/account-limits"):  # an <img>: no Origin, no key
            image = [HOST, b"sec-fetch-site: cross-site", b"sec-fetch-mode: no-cors", b"sec-fetch-dest: image"]
            is_error(await ask(made, *image, method="GET", path=path), 401, "authentication_error")
        # a form of a browser that names no Origin has no key either
        is_error(await ask(made, HOST, b"content-type: " + FORM, body=b"model=x"), 401, "authentication_error")
        assert asked_of(made) == []
        own = b"origin: http://localhost:8080"
        assert (await ask(made, b"host: localhost:8080", own, RIGHT)).status == 200


PREFLIGHTS = [
    # origin · what it asks for · whether it may
    (ORIGIN.encode(), b"POST", b"x-api-key, content-type", True),
    (b"https://evil.test", b"POST", b"x-api-key", False),
    (b"null", b"POST", b"x-api-key", False),
    (b"https://app.test.evil.test", b"POST", b"x-api-key", False),
    (b"http://app.test", b"POST", b"x-api-key", False),
    (b"https://app.test:444", b"POST", b"x-api-key", False),
    (b"https://APP.test", b"POST", b"x-api-key", False),
    (b"https://app.test, https://evil.test", b"POST", b"x-api-key", False),
]


async def test_a_preflight_is_answered_to_listed_origins_alone(tmp_path: Path) -> None:
    """K5."""
    async with proxy(tmp_path, **CORS) as made:
        for origin, method, wanted, may in PREFLIGHTS:
            asking = [b"access-control-request-method: " + method, b"access-control-request-headers: " + wanted]
            for path in ("/v1/messages", "/refresh-token", "/nothing"):
                reply = await ask(made, HOST, b"origin: " + origin, *asking, method="OPTIONS", path=path)
                given = {name: value for name, value in reply.headers.items() if name.startswith("access-control-")}
                if may:
                    assert reply.status == 204 and given["access-control-allow-origin"] == ORIGIN
                    assert "*" not in given.values() and "origin" in reply.headers["vary"]
                else:
                    assert (reply.status, given) == (403, {}), origin
        assert asked_of(made) == []
        # the question alone opens nothing: what follows needs its key
        is_error(await ask(made, HOST, f"origin: {ORIGIN}".encode()), 401, "authentication_error")
        assert (await ask(made, HOST, f"origin: {ORIGIN}".encode(), RIGHT)).status == 200


ROUTES = {
    # every route there is, and whether it answers without a key; a new one is entered here by hand
    ("POST", "/v1/messages"): False,
    ("POST", "/v1/messages/count_tokens"): False,
    ("POST", "/v1/v1/messages"): False,
    ("POST", "/v1/v1/messages/count_tokens"): False,
    ("POST", "/v1/images/generate"): False,
    ("GET", "/v1/models"): False,
    ("GET", "/v1/models/{path:model}"): False,
    ("GET", "/v1/v1/models"): False,
    ("GET", "/v1/v1/models/{path:model}"): False,
    ("GET", "/livez"): True,
    ("HEAD", "/livez"): True,
    ("GET", "/readyz"): True,
    ("HEAD", "/readyz"): True,
    ("GET", "/health"): True,
    ("HEAD", "/health"): True,
    ("GET", "/account-limits"): False,
    ("GET", "/metrics"): False,
    ("POST", "/reset"): False,
    ("POST", "/refresh-token"): False,
    ("GET", "/usage"): False,
    ("GET", "/why/{request}"): False,
    ("HEAD", "/"): True,
    ("HEAD", "/api/hello"): True,
}
DISGUISES = [
    [],
    [b"user-agent: kube-probe/1.30"],
    [b"user-agent: GoogleHC/1.0", b"x-forwarded-for: 127.0.0.1", b"x-real-ip: ::1"],
    [b"x-forwarded-uri: /livez", b"x-original-url: /livez", b"x-rewrite-url: /livez"],
    [b"x-http-method-override: GET", b"x-method-override: HEAD"],
    [b"forwarded: for=127.0.0.1;host=localhost;proto=https", b"x-forwarded-proto: https", b"via: 1.1 localhost"],
]


def registered() -> set[tuple[str, str]]:
    """Every route of the application, out of the router itself."""
    app = build_app(cast("Gateway", None), Door(b"k"), 1.0, datetime.now)
    app.router.apply_routes()
    found = [(method, route.pattern) for method, route in app.router.iter_with_methods() if method != "*"]
    return {(method, pattern.decode() if isinstance(pattern, bytes) else pattern) for method, pattern in found}


def test_every_route_is_in_the_list_of_those_that_are_open_or_not() -> None:
    """K6."""
    assert {(method, path.lower()) for method, path in registered()} == set(ROUTES)


async def test_no_route_opens_to_a_method_a_look_or_a_forwarded_header(tmp_path: Path) -> None:
    """K6."""
    methods = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")
    async with proxy(tmp_path) as made:
        for path in sorted({path.replace("{path:model}", "claude-sonnet-5") for _, path in ROUTES}):
            for method in methods:
                open_to_all = ROUTES.get((method, path), False)
                for disguise in DISGUISES:
                    reply = await ask(made, HOST, *disguise, method=method, path=path)
                    if open_to_all:
                        assert reply.status == 200, (method, path, disguise)
                    else:
                        assert reply.status in (401, 405), (method, path, disguise, reply)
                        assert b"accounts" not in reply.body
        assert asked_of(made) == []


async def test_no_get_changes_accounts_credentials_or_limits(tmp_path: Path) -> None:
    """K5."""
    async with proxy(tmp_path) as made:
        before = (tmp_path / "accounts.json").read_bytes(), (tmp_path / "vault.key").read_bytes()
        seats = made.gateway.pool.seats
        for method, path in ROUTES:
            if method in ("GET", "HEAD"):
                path = path.replace("{path:model}", "claude-sonnet-5")
                known = "{request}" not in path  # no request of that id was ever made
                assert (await ask(made, HOST, RIGHT, method=method, path=path)).status == (200 if known else 404)
        for path in ("/account-limits?refresh=true", "/v1/models?beta=true"):
            assert (await ask(made, HOST, RIGHT, method="GET", path=path)).status == 200
        assert ((tmp_path / "accounts.json").read_bytes(), (tmp_path / "vault.key").read_bytes()) == before
        after = made.gateway.pool.seats
        assert [(seat.account, seat.closed) for seat in after] == [(seat.account, seat.closed) for seat in seats]
        assert asked_of(made) == []


def test_a_peer_has_some_wrong_keys_a_minute_and_then_has_to_come_back_later() -> None:
    """K7: the limiter as a value, its time in numbers."""
    knocks = Knocks()
    assert [knocks.wrong_key("10.0.0.1", 100.0 + number) for number in range(WRONG_KEYS)] == [None] * WRONG_KEYS
    assert knocks.wrong_key("10.0.0.1", 120.5) == TooMany(40, first=True)
    assert knocks.wrong_key("10.0.0.1", 159.9) == TooMany(1, first=False)
    assert knocks.wrong_key("10.0.0.2", 120.5) is None, "another peer is another"
    assert knocks.wrong_key("10.0.0.1", 100.0 + PER_SECONDS) is None, "a minute after the first it begins anew"
    assert knocks.wrong_key("10.0.0.1", 50.0) is None


def test_what_is_remembered_of_peers_has_an_end_and_a_household_is_one_peer() -> None:
    """K7."""
    knocks = Knocks()
    for number in range(20 * MAX_PEERS):
        knocks.wrong_key(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", 0.0)
    assert len(knocks) == MAX_PEERS
    knocks = Knocks()
    found = [knocks.wrong_key(f"2001:db8::{number:x}", 0.0) for number in range(WRONG_KEYS + 1)]
    assert len(knocks) == 1 and found[-1] is not None
    assert neighbourhood("::ffff:10.0.0.1") == "10.0.0.1" and neighbourhood("fe80::1%eth0") == "fe80::/64"
    assert neighbourhood("") == "" and neighbourhood("a socket") == "a socket"


async def test_a_thousand_wrong_keys_are_slowed_and_who_has_the_key_notices_nothing(tmp_path: Path) -> None:
    """K7."""
    async with proxy(tmp_path) as made:
        statuses: list[int] = []
        with capture_logs() as logs:
            for round_ in range(50):
                wrong = [
                    ask(made, HOST, b"x-api-key: guess-%d-%d" % (round_, each), method="GET") for each in range(20)
                ]
                right = ask(made, HOST, RIGHT, method="GET", path="/v1/models")
                *replies, answer = await asyncio.gather(*wrong, right)
                assert answer.status == 200 and "retry-after" not in answer.headers
                statuses += [reply.status for reply in replies]
        assert statuses.count(401) == WRONG_KEYS and statuses.count(429) == 1000 - WRONG_KEYS
        is_error(replies[-1], 429, "rate_limit_error")
        assert 1 <= int(replies[-1].headers["retry-after"]) <= PER_SECONDS
        assert replies[-1].headers["connection"] == "close", "each further guess costs a connection"
        assert replies[-1].headers["x-should-retry"] == "false", "no later moment makes it right"
        assert [each["event"] for each in logs if "wrong keys" in each["event"]] == ["too many wrong keys, slowed"]
        assert (await made.ask()).status_code == 200, "and its messages are served, from the same address"
        assert (await ask(made, HOST, b"x-api-key: wrong", RIGHT)).status == 200, "also beside a wrong one"
        assert (await ask(made, HOST, method="GET", path="/v1/models")).status == 401, "no key is no guess"
        assert (await ask(made, HOST, b"x-api-key: wrong", method="GET", path="/livez")).status == 200


TRAVERSALS = [
    "/../vault.key",
    "/../../etc/passwd",
    "/static/../vault.key",
    "/v1/../vault.key",
    "/v1/models/../../vault.key",
    "/v1/models/..%2f..%2fvault.key",
    "/v1/models/%2e%2e/%2e%2e/vault.key",
    "/%2e%2e/vault.key",
    "/%252e%252e%252fvault.key",
    "/..%5c..%5cvault.key",
    "/..\\vault.key",
    "/.//..//vault.key",
    "/%c0%ae%c0%ae/vault.key",
    "/vault.key",
    "/config.toml",
    "/accounts.json",
    "/link",
    "/docs",
    "/docs/",
    "/docs/../vault.key",
    "/openapi.json",
    "/redoc",
    "/swagger",
    "/static/app.js",
    "/favicon.ico",
    "/mcp_proxy/server/app.py",
    "/home-sibling/secret.txt",
    "/..-sibling/secret.txt",
    "//etc/passwd",
    "/file:///etc/passwd",
    "/etc/passwd%00.html",
]


async def test_no_path_leads_to_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """K8."""
    home = tmp_path / "home"
    async with proxy(home) as made:
        beside = tmp_path / "home-sibling"
        beside.mkdir()
        (beside / "secret.txt").write_text("a file beside")
        (home / "link").symlink_to(beside / "secret.txt")
        monkeypatch.chdir(home)
        files = [b"a file beside", b"root:", (home / "vault.key").read_bytes().strip(), b"from __future__"]
        for path in TRAVERSALS:
            with_key = await ask(made, HOST, RIGHT, method="GET", path=path)
            without = await ask(made, HOST, method="GET", path=path)
            assert with_key.status in (400, 404), (path, with_key)
            assert without.status in (400, 401), (path, without)
            assert not [each for each in files if each in with_key.body + without.body], path
        assert (await ask(made, HOST, RIGHT, method="GET", path="/v1/models")).status == 200
        assert asked_of(made) == []
