"""C4, A1 to A3: tokens that expire, whatever their issuer says, whoever leaves, whenever the process dies."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import parse_qs

import httpx
import pytest
import structlog

from accounts.model import Account, AccountId, Credential, OAuthGrant, Secret
from mcp_proxy.cli import accounts as command
from mcp_proxy.cli.adapters import open_vault
from mcp_proxy.cli.compose import serving
from mcp_proxy.cli.ledger import VaultLedger
from mcp_proxy.gateway import minting
from tests.e2e.harness import KEY, Proxy, settings
from tests.faults import granted, speech
from tests.faults.granted import PROGRAM, store_granted
from tests.faults.process import proxy, served, until
from tests.faults.upstream import NOT_FOUND, Play, Talk, Upstream, by_path, saying, silent, upstream
from tests.faults.watch import WatchedClient

MESSAGE = speech.answer(speech.message())
MINE = speech.answer(b"p-1", "text/plain")


def minted(number: int = 1, **fields: object) -> bytes:
    return speech.answer({"access_token": f"sk-fake-access-{number}", "expires_in": 3599, **fields})


def said(status: int, code: str, *fields: str) -> bytes:
    return speech.answer({"error": code}, "application/json", *fields, status=status)


@dataclass
class Issuer:
    """A token endpoint that answers in turn, the last for ever; `rotates`: each refresh token is good once."""

    answers: list[bytes] = field(default_factory=lambda: [minted()])
    pause: float = 0.0
    rotates: bool = False
    spent: list[str] = field(default_factory=list)

    async def __call__(self, talk: Talk) -> None:
        token = parse_qs(talk.upstream.heard[-1].rpartition(b"\r\n\r\n")[2].decode())["refresh_token"][0]
        answer = self.answers[min(len(self.spent), len(self.answers) - 1)]
        if self.rotates:
            answer = minted(len(self.spent), refresh_token=f"sk-fake-rotated-{len(self.spent)}")
            if token in self.spent:
                answer = said(400, "invalid_grant")
        self.spent.append(token)
        await asyncio.sleep(self.pause)
        await talk.say(answer)


async def refuses_the_stored(talk: Talk) -> None:
    stored = b"sk-fake-stored-token" in talk.upstream.heard[-1]
    await talk.say(speech.refusal(401, "authentication_error") if stored else MESSAGE)


@contextlib.asynccontextmanager
async def providing(issuer: Play, messages: Play | None = None, me: Play | None = None) -> AsyncIterator[Upstream]:
    parts = {"/token": issuer, "/v1/messages": messages or saying(MESSAGE), "/v1/me": me or saying(MINE)}
    async with upstream(by_path(parts)) as up:
        yield up


@contextlib.asynccontextmanager
async def at_work(home: Path, up: Upstream, toml: str = "") -> AsyncIterator[Proxy]:
    """The proxy in this process, with what is in the store."""
    async with serving(settings(home, granted.toml(up) + toml), 2.0) as (url, gateway, server):
        how = {"timeout": 30, "trust_env": False, "verify": False}
        async with WatchedClient(base_url=url, headers={"x-api-key": KEY}, **how) as client:
            yield Proxy(url, gateway, server, client)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("mcp_proxy.cli.adapters.all_providers", granted.providers)
    return tmp_path / "home"


def stored(home: Path) -> dict[str, tuple[Account, Credential]]:
    vault = open_vault(settings(home, (home / "config.toml").read_text()))
    return {entry.account.label: (entry.account, entry.credential) for entry in vault.entries()}


def expired(label: str = "a0") -> OAuthGrant:
    return granted.granted(label, left=-10.0, now=time.time())


def fresh(label: str = "a0") -> OAuthGrant:
    return granted.granted(label, left=3000.0, now=time.time())


async def test_a_hundred_requests_that_meet_an_expired_token_have_one_minted(home: Path) -> None:
    """A1."""
    issuer = Issuer(pause=0.1)
    async with providing(issuer) as up:
        store_granted(home, up, expired())
        async with at_work(home, up) as at:
            answers = await asyncio.gather(*(at.ask(f"number {n}") for n in range(100)))
        assert {answer.status_code for answer in answers} == {200}
        assert len(issuer.spent) == 1
        assert all(b"Bearer sk-fake-access-1" in asked for asked in up.asked())


async def test_two_servers_and_a_command_mint_one_token(home: Path) -> None:
    """A1. Each refresh token is good once: whoever used the old one again would end the sign-in."""
    issuer = Issuer(rotates=True, pause=0.5)
    async with providing(issuer) as up:
        store_granted(home, up, expired())
        async with served(home, program=PROGRAM) as one, served(home, program=PROGRAM) as two:
            verifying = asyncio.to_thread(proxy, home, "accounts", "verify", program=PROGRAM)
            asking = (running.ask() for running in (one, two) for _ in range(5))
            verified, *answers = await asyncio.gather(verifying, *asking)
        assert [answer.status_code for answer in answers] == [200] * 10
        assert verified.returncode == 0, verified.stdout + verified.stderr
        assert issuer.spent == ["sk-fake-refresh-of-a0"]
        _, grant = stored(home)["a0"]
        assert isinstance(grant, OAuthGrant) and grant.refresh_token == Secret("sk-fake-rotated-0")


CUT = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 500\r\n\r\n{"


async def cut(talk: Talk) -> None:
    await talk.say(CUT)
    talk.reset()


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(saying(said(500, "internal")), id="500"),
        pytest.param(saying(said(500, "invalid_grant")), id="500 that speaks of the grant"),
        pytest.param(saying(said(429, "slow_down", "retry-after: 60")), id="429"),
        pytest.param(saying(speech.answer(b"<html>sign in</html>", "text/html")), id="HTML"),
        pytest.param(saying(speech.answer(b"<html>no</html>", "text/html", status=403)), id="HTML 403"),
        pytest.param(saying(speech.answer({"token": "x"})), id="wrong JSON"),
        pytest.param(saying(speech.answer(b"[1,")), id="no JSON"),
        pytest.param(saying(NOT_FOUND), id="404"),
        pytest.param(cut, id="cut"),
        pytest.param(silent, id="hang"),
    ],
)
async def test_what_is_no_word_against_the_grant_retires_nobody(
    home: Path, monkeypatch: pytest.MonkeyPatch, answer: Play
) -> None:
    """A2. One attempt in a window, the store as it was, and the other account serves."""
    monkeypatch.setattr(minting, "MINT_SECONDS", 0.3)
    before = expired()
    async with providing(answer) as up:
        store_granted(home, up, before, fresh("a1"))
        async with at_work(home, up) as at:
            for _ in range(4):
                assert (await at.ask()).status_code == 200
            assert "invalid" not in [account["status"] for account in (await at.limits()).values()]
        assert len(up.asked("/token")) == 1
    account, grant = stored(home)["a0"]
    assert (account.invalid, grant) == (None, before)


@pytest.mark.parametrize(
    "fields",
    [{"expires_in": 0}, {"expires_in": -5}, {"expires_in": "3599"}, {"expires_in": "soon"}, {"expires_in": None}],
)
async def test_however_long_a_token_is_said_to_live_it_is_minted_once(home: Path, fields: dict[str, object]) -> None:
    """A2, T1."""
    async with providing(saying(minted(**fields))) as up:
        store_granted(home, up, expired())
        async with at_work(home, up) as at:
            for _ in range(4):
                assert (await at.ask()).status_code == 200
        assert len(up.asked("/token")) == 1


async def test_only_a_dead_grant_retires_its_account(home: Path) -> None:
    """A2."""
    async with providing(saying(said(400, "invalid_grant"))) as up:
        store_granted(home, up, expired(), fresh("a1"))
        async with at_work(home, up) as at:
            assert (await at.ask()).status_code == 200
            await until(lambda: stored(home)["a0"][0].invalid)
        assert len(up.asked("/token")) == 1
    invalid = stored(home)["a0"][0].invalid or ""
    assert "invalid_grant" in invalid and "proxy accounts add --provider antigravity" in invalid


async def test_a_wrong_client_marks_nobody(home: Path) -> None:
    """A2."""
    async with providing(saying(said(401, "invalid_client"))) as up:
        store_granted(home, up, expired(), expired("a1"))
        async with at_work(home, up) as at:
            answer = await at.ask()
        assert answer.status_code >= 500
        assert len(up.asked("/token")) == 1, "both have the same client"
    assert [account.invalid for account, _ in stored(home).values()] == [None, None]


@pytest.mark.parametrize("rotates", [pytest.param(False, marks=pytest.mark.slow), True])
async def test_killed_between_the_answer_and_the_save_it_asks_for_a_sign_in_at_worst(home: Path, rotates: bool) -> None:
    """A3."""
    issuer, before = Issuer(rotates=rotates), expired()
    async with providing(issuer) as up:
        store_granted(home, up, before)
        async with served(home, program=PROGRAM, FAILPOINT="minted") as running:
            with pytest.raises(httpx.TransportError):
                await running.ask()
            assert await running.ended() == -9
        assert up.asked() == [], "used before it was durable"
        assert stored(home)["a0"][1] == before
        async with served(home, program=PROGRAM) as running:
            answer = await running.ask()
            if not rotates:
                assert answer.status_code == 200
                return
            assert answer.status_code == 503
            await until(lambda: stored(home)["a0"][0].invalid)
            assert running.said("proxy accounts add --provider antigravity")
        assert "proxy accounts add --provider antigravity" in (stored(home)["a0"][0].invalid or "")


@pytest.mark.slow
async def test_killed_after_the_save_nobody_notices(home: Path) -> None:
    """A3."""
    issuer = Issuer(rotates=True)
    async with providing(issuer) as up:
        store_granted(home, up, expired())
        async with served(home, program=PROGRAM, FAILPOINT="saved") as running:
            with pytest.raises(httpx.TransportError):
                await running.ask()
            assert await running.ended() == -9
        async with served(home, program=PROGRAM) as running:
            assert (await running.ask()).status_code == 200
        assert len(issuer.spent) == 1


async def test_a_client_that_leaves_while_its_token_is_minted_leaves_it_to_the_next(home: Path) -> None:
    """C4."""
    issuer = Issuer(rotates=True, pause=0.5)
    async with providing(issuer) as up:
        store_granted(home, up, expired())
        async with at_work(home, up) as at:
            leaving = asyncio.create_task(at.ask())
            await until(lambda: issuer.spent)
            leaving.cancel()
            await asyncio.wait({leaving})
            assert up.asked() == []
            assert (await at.ask()).status_code == 200
            grant = stored(home)["a0"][1]
            assert isinstance(grant, OAuthGrant) and grant.refresh_token == Secret("sk-fake-rotated-0")
        assert len(issuer.spent) == len(up.asked()) == 1


async def test_what_cannot_be_saved_serves_from_memory_is_said_once_and_saved_later(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A3. The save fails as it does on a full disk."""
    monkeypatch.setattr(minting, "FIRST_PAUSE", 0.05)
    real, full = VaultLedger.renew, [True]

    def renew(ledger: VaultLedger, *words: object) -> None:
        if full[0]:
            raise OSError("No space left on device")
        real(ledger, *words)  # type: ignore[arg-type]

    monkeypatch.setattr(VaultLedger, "renew", renew)
    issuer = Issuer(rotates=True)
    async with providing(issuer) as up:
        store_granted(home, up, expired())
        with structlog.testing.capture_logs() as lines:
            async with at_work(home, up) as at:
                for _ in range(3):
                    assert (await at.ask()).status_code == 200
                await asyncio.sleep(0.3)
                full[0] = False
                await until(
                    lambda: (
                        isinstance(grant := stored(home)["a0"][1], OAuthGrant)
                        and grant.token is not None
                        and grant.refresh_token == Secret("sk-fake-rotated-0")
                    )
                )
                assert (await at.ask()).status_code == 200
        assert len(issuer.spent) == 1
        assert [line["event"] for line in lines].count("renewed token not saved, used from memory") == 1


async def test_a_token_that_is_refused_is_renewed_once_and_the_request_served(home: Path) -> None:
    issuer = Issuer()
    async with providing(issuer, refuses_the_stored) as up:
        store_granted(home, up, fresh())
        async with at_work(home, up) as at:
            answer = await at.ask()
            assert (answer.status_code, answer.headers["x-proxy-attempts"]) == (200, "1")
        assert (len(issuer.spent), len(up.asked())) == (1, 2)


async def test_an_account_whose_new_token_is_refused_too_is_left_alone_for_a_while(home: Path) -> None:
    """Its sign-in is good, since a token was minted from it: when a whole API errs, no account is retired."""
    quoting = speech.refusal(401, "authentication_error", "not sk-fake-access-1 of sk-fake-refresh-of-a0")
    issuer = Issuer()
    async with providing(issuer, saying(quoting)) as up:
        store_granted(home, up, fresh())
        async with at_work(home, up, toml="\n[routing]\nmax_wait = 0\n") as at:
            assert (await at.ask()).status_code == 429
            assert (await at.limits())["a0"]["status"] == "rate_limited"
        assert (len(issuer.spent), len(up.asked())) == (1, 2)
    assert stored(home)["a0"][0].invalid is None


async def test_what_must_be_known_of_an_account_is_learnt_when_it_is_used_first(home: Path) -> None:
    async with providing(Issuer()) as up:
        store_granted(home, up, expired(), known=False)
        async with at_work(home, up) as at:
            answers = await asyncio.gather(*(at.ask() for _ in range(5)))
            assert {answer.status_code for answer in answers} == {200}
            await until(lambda: stored(home)["a0"][0].extra == {"project": "p-1"})
        assert len(up.asked("/v1/me")) == 1


async def test_all_tokens_are_renewed_on_demand(home: Path) -> None:
    dead = Issuer([minted(), said(400, "invalid_grant")])
    async with providing(dead) as up:
        store_granted(home, up, fresh(), fresh("a1"))
        async with at_work(home, up) as at:
            told = (await at.client.post("/refresh-token")).json()
            again = (await at.client.post("/refresh-token")).json()
        (renewed,), (failed,) = told["refreshed"], told["failed"]
        assert told["status"] == "partial"
        assert {renewed, failed["account"]} == {"id-a0", "id-a1"}
        assert "invalid_grant" in failed["error"]
        assert again["refreshed"] == [renewed] and [each["account"] for each in again["failed"]] == [failed["account"]]
        assert len(dead.spent) == 2
        assert "sk-fake" not in json.dumps(told)


async def test_a_command_renews_a_token_and_keeps_it(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    issuer = Issuer([minted(), said(400, "invalid_grant")])
    async with providing(issuer) as up:
        store_granted(home, up, fresh())
        at = settings(home, granted.toml(up))
        monkeypatch.setattr(command, "settings", lambda: at)
        account, grant = stored(home)["a0"]
        assert await asyncio.to_thread(command.refresh, account, grant) is None
        _, renewed = stored(home)["a0"]
        assert isinstance(renewed, OAuthGrant) and renewed.token is not None
        assert renewed.token.value == Secret("sk-fake-access-1")
        why = await asyncio.to_thread(command.refresh, account, renewed)
        assert why is not None and "invalid_grant" in why
        assert "invalid_grant" in (stored(home)["a0"][0].invalid or "")


async def test_a_command_asks_about_a_grant_that_is_not_stored_yet(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with providing(Issuer()) as up:
        store_granted(home, up, fresh())
        at = settings(home, granted.toml(up))
        monkeypatch.setattr(command, "settings", lambda: at)
        account, grant = stored(home)["a0"]
        new = replace(account, id=AccountId("new"))
        verdict = await asyncio.to_thread(command.verify, new, granted.granted("anew"))
        assert (verdict.works.value, verdict.learnt) == ("ok", {"project": "p-1"})
        assert stored(home)["a0"][1] == grant
        assert b"sk-fake-refresh-of-anew" in up.asked("/token")[0]


async def test_a_command_asks_with_what_the_store_holds_now(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A1. A server may have had the sign-in renewed since the command began: its old refresh token is dead."""
    async with providing(Issuer(rotates=True)) as up:
        store_granted(home, up, expired())
        at = settings(home, granted.toml(up))
        monkeypatch.setattr(command, "settings", lambda: at)
        account, read_before = stored(home)["a0"]
        VaultLedger(open_vault(at)).renew(account.id, expired(), expired("renewed"))  # type: ignore[arg-type]
        verdict = await asyncio.to_thread(command.verify, account, read_before)
        assert verdict.works.value == "ok"
        (asked,) = up.asked("/token")
        assert b"sk-fake-refresh-of-renewed" in asked


async def test_told_to_end_while_a_token_is_minted_it_saves_that_first(home: Path) -> None:
    """P4. Nobody waits for it any more, and its refresh token is spent."""
    issuer = Issuer(rotates=True, pause=0.8)
    async with providing(issuer) as up:
        store_granted(home, up, expired())
        async with served(home, program=PROGRAM) as running:
            leaving = asyncio.create_task(running.ask())
            await until(lambda: issuer.spent)
            leaving.cancel()
            await asyncio.wait({leaving})
            running.signal()
            assert await running.ended() == 0
            assert running.tracebacks() == []
    grant = stored(home)["a0"][1]
    assert isinstance(grant, OAuthGrant) and grant.refresh_token == Secret("sk-fake-rotated-0")
