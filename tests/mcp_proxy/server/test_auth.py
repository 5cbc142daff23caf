"""Who may ask: one table for each of the three questions at the door."""

from __future__ import annotations

import hmac
from typing import Any

import pytest

from mcp_proxy.server import auth
from mcp_proxy.server.auth import Cors, Denial, Door, Visitor, host_name

KEY = b"sk-fake-key-of-the-tests"
DOOR = Door(KEY, frozenset({"proxy.lan"}))
OPEN_CORS = Cors(("https://app.test",), "GET, POST", "x-api-key", 600)
CORS = Door(KEY, cors=OPEN_CORS)
EVERYONE = Door(KEY, cors=Cors(("*",), "GET", "x-api-key", 600))


def ask(
    *headers: tuple[str, bytes],
    method: str = "POST",
    path: str = "/v1/messages",
    host: bytes | None = b"localhost:8080",
    door: Door = DOOR,
) -> Visitor | Denial:
    given = [(name.encode(), value) for name, value in headers]
    return door.admit(method, path, [*([(b"host", host)] if host is not None else []), *given])


KEYS: list[tuple[str, list[tuple[str, bytes]], bool]] = [
    ("x-api-key", [("x-api-key", KEY)], True),
    ("bearer", [("authorization", b"Bearer " + KEY)], True),
    ("bearer in any case", [("authorization", b"bEARER " + KEY)], True),
    ("x-proxy-api-key", [("x-proxy-api-key", KEY)], True),
    ("space around it", [("x-api-key", b"  " + KEY + b" ")], True),
    ("two spaces after bearer", [("authorization", b"Bearer  " + KEY)], True),
    ("beside a caller's own credential", [("authorization", b"Bearer sk-own"), ("x-proxy-api-key", KEY)], True),
    ("beside wrong ones", [("x-api-key", b"wrong"), ("x-api-key", KEY), ("authorization", b"Bearer no")], True),
    ("twice", [("x-api-key", KEY), ("x-api-key", KEY)], True),
    ("in two headers", [("x-api-key", KEY), ("authorization", b"Bearer " + KEY)], True),
    ("none", [], False),
    ("empty", [("x-api-key", b"")], False),
    ("empty bearer", [("authorization", b"Bearer ")], False),
    ("bearer alone", [("authorization", b"Bearer")], False),
    ("wrong", [("x-api-key", b"sk-fake-key-of-the-testz")], False),
    ("a prefix", [("x-api-key", KEY[:-1])], False),
    ("longer", [("x-api-key", KEY + b"1")], False),
    ("another case", [("x-api-key", KEY.upper())], False),
    ("not UTF-8", [("x-api-key", b"\xff\xfe")], False),
    ("another scheme", [("authorization", b"Basic " + KEY)], False),
    ("no scheme", [("authorization", KEY)], False),
    ("a variable's name", [("x-api-key", b"$PROXY_API_KEY")], False),
    ("in a list", [("x-api-key", b"wrong, " + KEY)], False),
    ("another header", [("x-key", KEY)], False),
    ("a cookie", [("cookie", b"x-api-key=" + KEY)], False),
    ("a proxy's header", [("proxy-authorization", b"Bearer " + KEY)], False),
]


@pytest.mark.parametrize(("about", "headers", "right"), KEYS, ids=[row[0] for row in KEYS])
def test_the_key(about: str, headers: list[tuple[str, bytes]], right: bool) -> None:
    found = ask(*headers)
    if right:
        assert found == Visitor(keyed=True)
    else:
        assert isinstance(found, Denial)
        assert (found.status, found.headers) == (401, (("x-should-retry", "false"),))
        assert KEY.decode() not in found.message


def test_every_value_is_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[bytes] = []

    class Spy:
        @staticmethod
        def compare_digest(given: bytes, key: bytes) -> bool:
            compared.append(given)
            return hmac.compare_digest(given, key)

    monkeypatch.setattr(auth, "hmac", Spy)
    ask(("x-api-key", KEY), ("x-api-key", b"b"), ("authorization", b"Bearer c"))
    assert compared == [KEY, b"b", b"c"], "also after the right one"


def test_the_key_is_never_shown() -> None:
    assert KEY.decode() not in repr(DOOR)


HOSTS: list[tuple[bytes | None, bool]] = [
    (b"localhost", True),
    (b"localhost:8080", True),
    (b"LocalHost", True),
    (b"localhost.", True),
    (b"localhost.:80", True),
    (b"127.0.0.1", True),
    (b"127.0.0.1:8080", True),
    (b"192.168.1.9:1", True),
    (b"[::1]", True),
    (b"[::1]:8080", True),
    (b"[fe80::1]:8080", True),
    (b"proxy.lan", True),
    (b"PROXY.lan.:8080", True),
    (None, False),
    (b"", False),
    (b":8080", False),
    (b".", False),
    (b"evil", False),
    (b"evil.test:8080", False),
    (b"localhost.evil.test", False),
    (b"evil-localhost", False),
    (b"localhost..", False),
    (b"localhost@evil", False),
    (b"evil@localhost", False),
    (b"localhost/", False),
    (b"localhost#", False),
    (b"localhost?x", False),
    (b"localhost\\evil", False),
    (b"::1", False),
    (b"[::1", False),
    (b"[evil]", False),
    (b"evil[::1]", False),
    (b"[::1]evil", False),
    (b"2130706433", False),
    (b"0x7f.1", False),
    (b"127.0.0.1.evil.test", False),
    (b"xn--lcalhost-lva", False),
    (b"l\xf6calhost", False),
    (b"local\xadhost", False),
    (b"sub.proxy.lan", False),
    (b"proxy.lan.evil.test", False),
]


@pytest.mark.parametrize(("host", "ours"), HOSTS)
def test_the_host(host: bytes | None, ours: bool) -> None:
    found = ask(("x-api-key", KEY), host=host)
    assert (found == Visitor(keyed=True)) is ours
    if not ours:
        assert isinstance(found, Denial) and found.status == 403


@pytest.mark.parametrize(("method", "path"), [("GET", "/livez"), ("GET", "/health"), ("HEAD", "/"), ("OPTIONS", "/")])
def test_a_foreign_host_gets_not_even_what_is_open_to_all(method: str, path: str) -> None:
    found = ask(
        ("origin", b"http://evil"), ("access-control-request-method", b"POST"), method=method, path=path, host=b"evil"
    )
    assert isinstance(found, Denial) and found.status == 403


ORIGINS: list[tuple[str, Door, bytes | None, bool]] = [
    # what it is about · the door · the origin · may come
    ("none", DOOR, None, True),
    ("our own", DOOR, b"http://localhost:8080", True),
    ("our own, behind TLS", DOOR, b"https://localhost:8080", True),
    ("another port", DOOR, b"http://localhost:9090", False),
    ("no port", DOOR, b"http://localhost", False),
    ("another name for us", DOOR, b"http://127.0.0.1:8080", False),
    ("foreign", DOOR, b"https://evil.test", False),
    ("null", DOOR, b"null", False),
    ("empty", DOOR, b"", False),
    ("no scheme", DOOR, b"//localhost:8080", False),
    ("another scheme", DOOR, b"file://localhost:8080", False),
    ("an extension", DOOR, b"chrome-extension://localhost:8080", False),
    ("a user in it", DOOR, b"http://localhost:8080@evil.test", False),
    ("brackets that do not close", DOOR, b"http://[::1", False),
    ("bytes", DOOR, b"\xff\xfe", False),
    ("listed", CORS, b"https://app.test", True),
    ("listed, another case", CORS, b"https://APP.test", False),
    ("listed, longer", CORS, b"https://app.test.evil.test", False),
    ("not listed", CORS, b"https://evil.test", False),
    ("null with CORS", CORS, b"null", False),
    ("everyone", EVERYONE, b"https://evil.test", True),
]


@pytest.mark.parametrize(("about", "door", "origin", "may"), ORIGINS, ids=[row[0] for row in ORIGINS])
def test_the_origin(about: str, door: Door, origin: bytes | None, may: bool) -> None:
    headers = [("x-api-key", KEY)] + ([("origin", origin)] if origin is not None else [])
    found = ask(*headers, door=door)
    if not may:
        assert isinstance(found, Denial) and found.status == 403
        return
    told = origin.decode() if origin is not None and door.cors is not None else None
    assert found == Visitor(keyed=True, origin=told)


def preflight(door: Door, origin: str) -> Visitor | Denial:
    headers = [("origin", origin.encode()), ("access-control-request-method", b"POST")]
    return ask(*headers, method="OPTIONS", door=door)


def test_a_preflight_needs_no_key_but_a_listed_origin() -> None:
    assert preflight(CORS, "https://app.test") == Visitor(keyed=False, origin="https://app.test", preflight=True)
    for door, origin in ((CORS, "https://evil.test"), (CORS, "null"), (DOOR, "https://app.test")):
        found = preflight(door, origin)
        assert isinstance(found, Denial) and found.status == 403


def test_options_without_an_origin_is_no_preflight() -> None:
    found = ask(("access-control-request-method", b"POST"), method="OPTIONS")
    assert isinstance(found, Denial) and found.status == 401


WITHOUT_KEY: list[tuple[str, str, bool]] = [
    ("GET", "/livez", True),
    ("HEAD", "/livez", True),
    ("GET", "/readyz", True),
    ("HEAD", "/readyz", True),
    ("GET", "/health", True),
    ("HEAD", "/health", True),
    ("HEAD", "/", True),
    ("HEAD", "/api/hello", True),
    ("GET", "/", False),
    ("GET", "/api/hello", False),
    ("POST", "/livez", False),
    ("GET", "/livez/x", False),
    ("GET", "/livez/../v1/models", False),
    ("GET", "//livez", False),
    ("GET", "/v1/models", False),
    ("POST", "/v1/messages", False),
    ("GET", "/account-limits", False),
    ("GET", "/metrics", False),
    ("POST", "/reset", False),
    ("POST", "/refresh-token", False),
    ("GET", "/nothing", False),
]


@pytest.mark.parametrize(("method", "path", "open_to_all"), WITHOUT_KEY)
@pytest.mark.parametrize(
    "disguise",
    [
        [],
        [("user-agent", b"kube-probe/1.30"), ("x-forwarded-uri", b"/livez"), ("x-original-url", b"/livez")],
        [("x-forwarded-host", b"localhost"), ("x-forwarded-for", b"127.0.0.1"), ("forwarded", b"for=127.0.0.1")],
    ],
    ids=["plain", "as a probe", "as local"],
)
def test_what_is_open_to_all_and_nothing_makes_more_of_it(
    method: str, path: str, open_to_all: bool, disguise: list[tuple[str, bytes]]
) -> None:
    found = ask(*disguise, method=method, path=path)
    if open_to_all:
        assert found == Visitor(keyed=False)
    else:
        assert isinstance(found, Denial) and found.status == 401


def test_health_with_a_wrong_key_is_refused_and_livez_is_not() -> None:
    found: Any = ask(("x-api-key", b"wrong"), method="GET", path="/health")
    assert isinstance(found, Denial) and found.status == 401
    assert ask(("x-api-key", b"wrong"), method="GET", path="/livez") == Visitor(keyed=False)


def test_a_host_name_without_its_trimmings() -> None:
    assert host_name("[FE80::1]:80") == "fe80::1"
    assert host_name("Proxy.LAN.:80") == "proxy.lan"


OAT = b"sk-ant-oat01-sk-fake-login"


@pytest.mark.parametrize(
    ("bearers", "found"),
    [
        ([OAT], OAT),
        ([KEY, OAT], OAT),
        ([], None),
        ([KEY], None),
        ([OAT, OAT + b"2"], None),
        ([OAT, b"sk-other"], None),
        ([b"sk-ant-api03-sk-fake-key"], None),
        ([b"sk-ant-oat"], None),
        ([b"x" + OAT], None),
        ([OAT + b" more"], None),
        ([OAT + b"\xc3\xa9"], None),
        ([OAT + b"x" * 5000], None),
    ],
)
def test_a_callers_own_login_is_one_bearer_that_can_be_nothing_else(bearers: list[bytes], found: bytes | None) -> None:
    login = DOOR.login([(b"x-proxy-api-key", KEY), *((b"authorization", b"Bearer " + each) for each in bearers)])
    assert (login.reveal().encode() if login is not None else None) == found


def test_who_brings_a_login_alone_is_told_where_the_key_goes() -> None:
    told = ask(("authorization", b"Bearer " + OAT))
    assert isinstance(told, Denial) and told.status == 401 and "x-proxy-api-key" in told.message and told.guess


def test_a_key_that_looks_like_a_login_is_no_callers() -> None:
    assert Door(OAT).login([(b"authorization", b"Bearer " + OAT)]) is None


@pytest.mark.parametrize(
    ("peer", "header", "local"),
    [
        ("127.0.0.1", b"accept", True),
        ("127.8.8.8", b"accept", True),
        ("::1", b"accept", True),
        ("::ffff:127.0.0.1", b"accept", True),
        ("192.0.2.1", b"accept", False),
        ("::ffff:192.0.2.1", b"accept", False),
        ("", b"accept", False),
        (None, b"accept", False),
        *(("127.0.0.1", name, False) for name in (b"forwarded", b"via", b"x-real-ip", b"x-forwarded-for")),
        *(
            ("127.0.0.1", name, False)
            for name in (b"cf-ray", b"x-forwarded", b"tailscale-user-login", b"fly-client-ip")
        ),
        ("127.0.0.1", b"x-forwarded-proto", False),
    ],
)
def test_local_is_who_is_connected_from_here_and_for_nobody_else(peer: str | None, header: bytes, local: bool) -> None:
    headers = [(b"host", b"localhost:8080"), (header, b"x")]
    assert Door(KEY, loopback=True).is_local(headers, peer) is local
    assert Door(KEY).is_local(headers, peer) is False


@pytest.mark.parametrize(
    ("host", "local"),
    [
        (b"localhost:8080", True),
        (b"LOCALHOST.", True),
        (b"127.0.0.1", True),
        (b"[::1]:8080", True),
        (b"proxy.lan", False),
        (b"host.docker.internal:8080", False),
        (b"192.0.2.1", False),
        (b"", False),
    ],
)
def test_who_asks_for_another_name_came_through_a_tunnel(host: bytes, local: bool) -> None:
    assert Door(KEY, loopback=True).is_local([(b"host", host)], "127.0.0.1") is local
