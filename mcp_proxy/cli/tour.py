"""The tour of `proxy demo`: a scripted day in the life of seven accounts, sent over real HTTP."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from math import inf, nextafter

import httpx
from rich.console import Console
from rich.markup import escape

from mcp_proxy.cli import usage, why
from mcp_proxy.cli.status import unwell
from mcp_proxy.core.change import Tripped, breaker_of
from mcp_proxy.core.ids import AccountId
from mcp_proxy.core.time import Instant
from mcp_proxy.gateway.explain import explain
from mcp_proxy.gateway.gateway import Gateway
from mcp_proxy.sandbox import Account, Sandbox, faults, refusals
from mcp_proxy.sandbox.google.account import GoogleAccount

CLAUDE, GLM = "claude-sonnet-5", "glm-4.7"
GOOGLES_CLAUDE, GEMINI = "claude-sonnet-4-6", "gemini-3-flash"
FAMILIES = (GOOGLES_CLAUDE, GEMINI, GOOGLES_CLAUDE)
BOUND = f"antigravity/{GOOGLES_CLAUDE}"
SHORT_SECONDS, LONG_SECONDS = 2, 900
PROBE_SECONDS = 0.5
"""Longer than it takes a request that comes meanwhile to be sent, were it not made to wait."""


@dataclass(slots=True)
class Told:
    """What one request came to. events: how many came; cut: the connection ended before the answer did."""

    status: int
    headers: Mapping[str, str]
    text: str
    events: int = 0
    cut: bool = False


@dataclass(slots=True)
class Tour:
    """Sends the requests and says what happened.

    upstreams  the sandbox's accounts by the id the proxy knows them under
    reload     takes the settings over again, with or without `--fallback`, as a changed config file is
    """

    http: httpx.AsyncClient
    gateway: Gateway
    box: Sandbox
    upstreams: Mapping[AccountId, Account]
    console: Console
    reload: Callable[[bool], None]
    stood_in: str = ""
    sent: int = 0
    step: int = 0
    wrong: list[str] = field(default_factory=list)

    async def run(self) -> bool:
        """Every step in turn; whether each showed what it promised."""
        for stop in (
            self.streaming,
            self.stickiness,
            self.exhaustion,
            self.soft_limit,
            self.early_death,
            self.killed_streams,
            self.families,
            self.expiry,
            self.drained_family,
            self.fallback,
            self.breaker,
            self.waiting,
            self.refusing,
        ):
            await stop()
        await self.limits()
        await self.looking_back()
        for text in self.wrong:
            self.console.print(f"[red]not as promised: {escape(text)}[/red]")
        return not self.wrong

    async def streaming(self) -> None:
        self._title("A streamed answer, passed on event by event")
        told = await self._ask("Write me a haiku about caches.", stream=True)
        self._expect(told.status == 200 and told.events > 5, "a stream of events")
        self._say(f"{told.events} events came as the upstream wrote them.")

    async def stickiness(self) -> None:
        self._title("A conversation stays where its prompt cache is warm")
        first = await self._ask("First turn.")
        turns = [await self._ask(f"Turn {n}.") for n in (2, 3)]
        same = all(told.headers["x-proxy-account"] == first.headers["x-proxy-account"] for told in turns)
        self._expect(same, "the same account for each turn")

    async def exhaustion(self) -> None:
        self._title("That account runs into its limit: the conversation carries on elsewhere")
        before = await self._ask("The last turn before the limit.")
        self._upstream(before).drain("input-tokens")
        after = await self._ask("The client sees nothing of the 429 behind this turn.")
        again = await self._ask("And the next turn goes straight to the new account.")
        self._expect(after.status == 200 and after.headers["x-proxy-reason"] == "failover", "a failover")
        self._expect(again.headers["x-proxy-attempts"] == "1", "no second try at a closed account")

    async def soft_limit(self) -> None:
        self._title("The soft limit: zai/work has 15 % left and is kept for last, though its tier is first")
        # the background reading is due within a second
        await self.box.until(lambda: self.gateway.limits()["totals"]["soft_limited"], 10)
        told = await self._ask("Which account takes this?", GLM, session="glm")
        self._expect(told.headers["x-proxy-reason"] == "soft_limited", "the other account")

    async def early_death(self) -> None:
        self._title("An upstream dies before its first content: it costs the client nothing but time")
        first = await self._ask("Who is it now?", session="fragile")
        self._upstream(first).always(faults.cut_before_content())
        told = await self._ask("Its upstream now dies behind message_start.", session="fragile", stream=True)
        self._upstream(first).well()
        self._expect(told.status == 200 and not told.cut, "an answer all the same")

    async def killed_streams(self) -> None:
        self._title("A stream is killed in the middle: never a made-up end")
        first = await self._ask("Once more, who is it?", session="killed")
        self._upstream(first).script(faults.cut_events("content_block_delta"))
        told = await self._ask("Killed in the first block.", session="killed", stream=True)
        self._expect(told.cut, "a closed connection")
        self._say("Before the first whole block the connection is closed, so that the client asks again by itself.")
        second = await self._ask("Asked again.", session="killed")
        self._upstream(second).script(faults.cut_after_block())
        told = await self._ask("Killed behind the first block.", session="killed", stream=True)
        self._expect("event: error" in told.text and not told.cut, "an error event")
        self._say("Behind a whole block, which the client may have acted on, an honest error event ends it.")

    async def families(self) -> None:
        self._title(
            "Google's accounts have several families of models: a conversation moves from Claude to Gemini and back"
        )
        told = [await self._ask(f"Turn {n}.", model, session="google") for n, model in enumerate(FAMILIES, start=1)]
        self._expect(all(each.status == 200 for each in told), "an answer from each model")
        streamed = await self._ask("And now event by event.", GEMINI, session="google", stream=True)
        self._expect("event: message_stop" in streamed.text, "Anthropic's events from Gemini's wire")

    async def expiry(self) -> None:
        self._title("Its access token expires: a new one is minted behind the request")
        first = await self._ask("Who is it?", GEMINI, session="google")
        account = self._google(first)
        minted = account.minted
        account.expire()
        told = await self._ask("The token that goes with this is refused.", GEMINI, session="google")
        self._expect(told.status == 200 and account.minted == minted + 1, "one new token")

    async def drained_family(self) -> None:
        self._title("one@example.com has 10 % left for Claude models: it is kept for last there, not for Gemini")
        told = await self._ask("Which account takes this?", GOOGLES_CLAUDE, session="another")
        self._expect(self._upstream(told).alias.endswith("two@example.com"), "the other account")
        gemini = [await self._ask("And this?", GEMINI, session=name) for name in ("a", "b", "c")]
        free = all(each.headers["x-proxy-reason"] != "soft_limited" for each in gemini)
        self._expect(free, "no soft limit on the family that has plenty")

    async def fallback(self) -> None:
        self._title("Nothing is left for Claude models at Google: with `--fallback` a model of another family answers")
        for upstream in self._upstreams_of("antigravity"):
            upstream.drain("3p-5h")
        told = await self._ask("Without it this is a limit.", BOUND, session="google")
        self._expect(told.status == 429, "a limit")
        self.reload(True)
        told = await self._ask("The settings have changed. And now?", BOUND, session="google")
        self.reload(False)
        self.stood_in = told.headers["request-id"]
        self._expect(told.headers["x-proxy-reason"] == "fallback_model" and BOUND in told.text, "another family")
        self._say(f"{told.headers['x-proxy-model']} has answered; the client reads the name that it asked for.")

    async def breaker(self) -> None:
        self._title("Z.AI goes down: after five failures in a row it is left alone, until one request tries it again")
        down, zai = faults.drop(), self._upstreams_of("zai")
        for upstream in zai:
            upstream.always(down)
        failed = [await self._send("Is anybody there?", GLM, session="glm") for _ in range(3)]
        failed.append(await self._ask("The fourth that fails.", GLM, session="glm"))
        self._expect([told.status for told in failed] == [502] * 4, "an honest error")
        async with asyncio.TaskGroup() as tasks:
            fifth = tasks.create_task(self._send("And now?", GLM, session="glm"))
            await self._so(lambda: self._breakers("open"), "an open breaker")
            for line in unwell((await self.http.get("/health")).json()):
                self._say(line.strip())
            seen = {upstream: len(upstream.received) for upstream in zai}
            for upstream in zai:
                upstream.well()
                upstream.script(faults.stall(seconds=PROBE_SECONDS))
            self._let_in()
            await self._so(lambda: _messages(seen), "a probe")
            late = tasks.create_task(self._send("And now?", GLM, session="late"))
        self._say("It is well again, and the time is over (some ten seconds, which the tour leaves out).")
        self._show("The fifth has waited, and tries it.", fifth.result())
        self._show("One that comes meanwhile waits for what becomes of that.", late.result())
        self._expect(fifth.result().status == late.result().status == 200, "answers")
        came = _messages(seen)
        self._expect(len(came) == 2 and came[1] - came[0] >= PROBE_SECONDS, "one probe, and nobody beside it")
        for upstream in zai:
            upstream.well()

    async def waiting(self) -> None:
        self._title(f"All accounts for {GLM} are limited for {SHORT_SECONDS} s: the request waits")
        self._limit_all("zai", SHORT_SECONDS)
        told = await self._ask("Is a short throttle hidden?", GLM, session="glm")
        self._expect(told.status == 200 and told.headers["x-proxy-reason"] == "waited", "a wait")

    async def refusing(self) -> None:
        self._title(f"All accounts for {GLM} are limited for {LONG_SECONDS // 60} minutes: a true 429, at once")
        self._limit_all("zai", LONG_SECONDS)
        told = await self._ask("And a long one?", GLM, session="glm")
        seconds = int(told.headers.get("retry-after", "0"))
        self._expect(told.status == 429 and LONG_SECONDS - 30 < seconds <= LONG_SECONDS, "429 with a true retry-after")
        self._say(f"retry-after: {seconds}")

    async def limits(self) -> None:
        """What the operator sees."""
        self._title("GET /account-limits?format=table", numbered=False)
        table = await self.http.get("/account-limits", params={"format": "table"})
        self._print([table.text])

    async def looking_back(self) -> None:
        """What the operator can still read of it tomorrow."""
        self._title(f"proxy why {self.stood_in}", numbered=False)
        self._print(why.shown((await self.http.get(f"/why/{self.stood_in}")).json(), self.console.width))
        self._title("proxy usage --by account", numbered=False)
        found = (await self.http.get("/usage", params={"by": "account"})).json()
        self._expect(found["total"]["requests"] == self.sent, "every request in the journal")
        self._print(usage.shown(found, self.console.width))

    # helpers of the steps

    async def _so(self, holds: Callable[[], object], what: str) -> None:
        """Wait until something is so; a promise that it comes to be."""
        with contextlib.suppress(TimeoutError):
            await self.box.until(holds, 10)
        self._expect(bool(holds()), what)

    def _breakers(self, state: str) -> list[str]:
        """The addresses whose breakers are in this state."""
        return [each["name"] for each in self.gateway.upstreams() if each["state"] == state]

    def _let_in(self) -> None:
        """Have it that Z.AI was left alone for as long as it should be."""
        for seat in (seat for seat in self.gateway.pool.seats if seat.provider == "zai"):
            for subject, breaker in ((breaker_of(seat.id), seat.breaker), (seat.upstream, seat.address)):
                over = breaker._replace(until=self.gateway.now(), at=Instant(nextafter(breaker.at, inf)))
                self.gateway.pool.apply([Tripped(subject, over)])

    def _upstreams_of(self, provider: str) -> list[Account]:
        own = self.box.host(provider).accounts.values()
        return [upstream for upstream in self.upstreams.values() if upstream in own]

    def _limit_all(self, provider: str, seconds: int) -> None:
        for upstream in self._upstreams_of(provider):
            upstream.script(refusals.zai_error(1308, resets_in=seconds))

    def _google(self, told: Told) -> GoogleAccount:
        account = self._upstream(told)
        assert isinstance(account, GoogleAccount)  # noqa: S101 - whoever serves these models
        return account

    def _upstream(self, told: Told) -> Account:
        return self.upstreams[AccountId(told.headers["x-proxy-account"].partition("/")[2])]

    async def _ask(self, text: str, model: str = CLAUDE, *, session: str = "tour", stream: bool = False) -> Told:
        told = await self._send(text, model, session=session, stream=stream)
        self._show(text, told)
        return told

    async def _send(self, text: str, model: str, *, session: str, stream: bool = False) -> Told:
        self.sent += 1
        body = {
            "model": model,
            "max_tokens": 200,
            "stream": stream,
            "messages": [{"role": "user", "content": text}],
        }
        headers = {"x-claude-code-session-id": session}
        async with self.http.stream("POST", "/v1/messages", json=body, headers=headers) as answer:
            return await _read(answer)

    def _show(self, text: str, told: Told) -> None:
        account = self._name(AccountId(told.headers["x-proxy-account"].partition("/")[2]))
        colour = "green" if told.status == 200 and not told.cut else "yellow"
        ending = " (connection closed)" if told.cut else ""
        self.console.print(
            f"  [{colour}]{told.status}{ending}[/{colour}] {escape(account)}  "
            f"[bold]{told.headers['x-proxy-reason']}[/bold]  [dim]{escape(text)}[/dim]",
            soft_wrap=True,
        )
        rows = (each.making()() for each in reversed(self.gateway.recent))
        row = next(row for row in rows if row.request == told.headers["request-id"])
        width = max(len(seat.account.name) for seat in self.gateway.pool.seats)
        for line in explain(row):
            if line.reason == "not_served":
                continue
            left = line.until - self.gateway.now() if line.until is not None else 0.0
            more = line.detail or (why.REASONS.get(line.reason) if line.verdict == "candidate" else "")
            said = f"{line.reason}, {more}" if more else line.reason
            until = f", for {lasting(left)}" if left >= 1.0 else ""
            who = self._name(AccountId(line.account))
            self.console.print(
                f"      {escape(who):{width}} {line.verdict}: {escape(said[:100])}{until}",
                style="dim",
                highlight=False,
                soft_wrap=True,
            )

    def _name(self, account: AccountId) -> str:
        seat = self.gateway.pool.seat(account)
        return seat.account.name if seat is not None else "nobody"

    def _title(self, text: str, *, numbered: bool = True) -> None:
        self.step += numbered
        self.console.print(
            f"\n[bold]{f'{self.step}. ' if numbered else ''}{escape(text)}[/bold]", highlight=False, soft_wrap=True
        )

    def _print(self, lines: Iterable[str]) -> None:
        self.console.print("\n".join(lines), markup=False, highlight=False, soft_wrap=True)

    def _say(self, text: str) -> None:
        self.console.print(f"  {text}", highlight=False, soft_wrap=True)

    def _expect(self, held: bool, what: str) -> None:
        if not held:
            self.wrong.append(f"step {self.step}: {what}")


def _messages(seen: Mapping[Account, int]) -> list[float]:
    """When each request for a message came to these accounts, behind so many requests of each."""
    came = [each for upstream, count in seen.items() for each in upstream.received[count:]]
    return sorted(each.at for each in came if each.heard.target.partition("?")[0].endswith("/messages"))


def lasting(seconds: float) -> str:
    """A time as people say it: "59 s", "15 min", "5 h"."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.0f} h"


async def _read(answer: httpx.Response) -> Told:
    told = Told(answer.status_code, answer.headers, "")
    try:
        async for piece in _pieces(answer):
            told.text += piece
    except httpx.RemoteProtocolError:
        told.cut = True
    told.events = told.text.count("event: ")
    return told


async def _pieces(answer: httpx.Response) -> AsyncIterator[str]:
    async for piece in answer.aiter_raw():
        yield piece.decode("utf-8", "replace")
