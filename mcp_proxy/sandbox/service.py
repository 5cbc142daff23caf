"""A simulated host at work: from a request to the steps of its answer, without a socket."""

from __future__ import annotations

import hashlib
import itertools
from base64 import b64encode
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from urllib.parse import parse_qs, unquote

from mcp_proxy.core.usage import Usage
from mcp_proxy.sandbox.accounts import Account, Model, Place, Scripted, Window, begun
from mcp_proxy.sandbox.answers import Answer, Block, Json, Message, Raw, Redacted, Text, Thinking, ToolUse, sse
from mcp_proxy.sandbox.cache import size_of
from mcp_proxy.sandbox.dialogue import check_messages
from mcp_proxy.sandbox.faults import Fault, Scene
from mcp_proxy.sandbox.hosts import Host
from mcp_proxy.sandbox.received import Received
from mcp_proxy.sandbox.replies import SSE, Pause, Reply, Step, document, head, honest
from mcp_proxy.sandbox.strict import (
    Rules,
    betas,
    check_betas,
    check_billing_line,
    check_fields,
    check_manners,
    check_version,
    read_body,
)
from mcp_proxy.sandbox.wire import Heard
from mcp_proxy.sandbox.wrongs import Wrong

FIXTURES = b64encode(b"FAKESIG").decode().rstrip("=")
"""How the signatures begin that recorded conversations carry; the host takes them for its own."""

QUERIES = {
    Place.MESSAGES: frozenset({"beta"}),
    Place.COUNT_TOKENS: frozenset({"beta"}),
    Place.MODELS: frozenset({"limit", "after_id", "before_id", "beta"}),
    Place.QUOTA: frozenset({"type"}),
}
OPTIONAL = ("/v1/messages/count_tokens", "/v1/models")
"""Paths that a client may try although a host has no such endpoint."""
METHODS = {Place.MESSAGES: "POST", Place.COUNT_TOKENS: "POST", Place.MODELS: "GET", Place.QUOTA: "GET"}


@dataclass(slots=True, eq=False, kw_only=True)
class Service(Scripted):
    """One host with its accounts. A host can be scripted as an account can: it meets whoever asks.

    authority  host and port it is asked under
    """

    host: Host
    rules: Rules = Rules.ALL
    authority: str = ""
    accounts: dict[str, Account] = field(default_factory=dict)
    received: list[Received] = field(default_factory=list)
    open: int = 0
    total: int = 0
    _issued: set[str] = field(default_factory=set)
    _ids: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def account(
        self,
        alias: str | None,
        key: str | None,
        models: Iterable[str | Model] | None,
        windows: Iterable[Window] | None,
        now: float,
    ) -> Account:
        """A new account; each part the host's default where it is not given."""
        number = len(self.accounts) + 1
        key = key or self.host.key.format(n=number)
        listed = self.host.models if models is None else tuple(self._model(model) for model in models)
        made = Account(
            alias=alias or f"{self.host.name}-{number}",
            key=key,
            models={model.id: model for model in listed},
            windows=begun(self.host.windows() if windows is None else windows, now),
        )
        self.accounts[key] = made
        return made

    def _model(self, model: str | Model) -> Model:
        if isinstance(model, Model):
            return model
        return next((known for known in self.host.models if known.id == model), Model(model, model))

    def place(self, path: str) -> Place | None:
        """Which endpoint a path is; None: none."""
        if self.host.monitor and path == self.host.monitor[0]:
            return Place.QUOTA
        own = path.removeprefix(self.host.prefix) if path.startswith(self.host.prefix) else ""
        if own == "/v1/messages":
            return Place.MESSAGES
        if own == "/v1/messages/count_tokens" and self.host.counts:
            return Place.COUNT_TOKENS
        listing = own == "/v1/models" or own.startswith("/v1/models/")
        return Place.MODELS if listing and self.host.lists else None

    def owner(self, heard: Heard, now: float) -> Account | None:
        """Whose key a request carries, in any header this host reads one from."""
        for key in self.keys(heard):
            account = self.accounts.get(key)
            if account is not None and not account.revoked:
                return account
        return None

    def keys(self, heard: Heard) -> list[str]:
        values = [value for name in self.host.auth for value in heard.values(name)]
        return [value[7:] if value[:7].lower() == "bearer " else value for value in values]

    def answer(self, received: Received, now: float) -> Iterable[Step]:
        """What to do about a request. Fills in `received`: whose it is, what is wrong, which fault it met."""
        heard, place = received.heard, self.place(received.path)
        trace = f"req_sandbox_{next(self._ids):06d}"
        received.account = account = self.owner(heard, now)
        body: Json = {}
        wrong: Wrong | None = None
        try:
            body = self.check(heard, place, account, now)
        except Wrong as found:
            wrong, received.wrong = found, self.complaint(found)
        if place is None and not received.path.endswith(OPTIONAL):
            received.wrong = "no such path"

        def make() -> Reply:
            if wrong is not None:
                return self.host.refuse(wrong, trace)
            return self.reply(heard, place, account, body, trace, now)

        if fault := self.fault(account, place, in_order=received.wrong is None):
            received.fault = fault.name
            return fault.steps(Scene(now, trace, make))
        reply = make()
        if heard.method == "HEAD":
            return [head(reply)]
        return honest(reply) if reply.chunked or not reply.delay else [Pause(reply.delay), *honest(reply)]

    def complaint(self, wrong: Wrong) -> str | None:
        """What is written down of a request that is not in order; None: it is nobody's bad manners."""
        return wrong.message

    def fault(self, account: Account | None, place: Place | None, *, in_order: bool) -> Fault | None:
        """A one-shot before a standing fault, the account's before the host's."""
        place = place or Place.MESSAGES
        scripted: tuple[Scripted, ...] = (self,) if account is None else (account, self)
        if in_order and account is not None:
            for owner in scripted:
                if fault := owner.once(place):
                    return fault
        return next((fault for owner in scripted if (fault := owner.standing(place))), None)

    def check(self, heard: Heard, place: Place | None, account: Account | None, now: float) -> Json:
        """The body, where one is wanted. Raises `Wrong` for what this host does not take.

        A request that carries nobody's key is looked at for its manners alone.
        """
        abroad = not self.host.native
        if place is not None and self.rules >= Rules.ALL:
            check_manners(heard, self.authority, abroad=abroad, queries=QUERIES[place])
        if place is None or account is None:
            return {}
        if self.rules < Rules.REAL:
            return loose(heard)
        if self.host.beta is not None and self.host.beta not in betas(heard):
            raise Wrong("OAuth authentication is currently not supported.", status=401)
        if heard.method != METHODS[place]:
            raise Wrong("Method Not Allowed", status=405)
        if place is Place.QUOTA:
            return {}
        check_version(heard)
        check_betas(heard, abroad=abroad)
        if place is Place.MODELS:
            return {}
        body = read_body(heard)
        check_fields(body, heard, abroad=abroad, counting=place is Place.COUNT_TOKENS)
        model = account.models.get(body["model"])
        if model is None:
            raise self.unknown_model(body["model"])
        check_messages(body, self.genuine if self.host.native else None)
        self.host.refuses(body)
        if abroad and self.rules >= Rules.ALL:
            check_billing_line(body)
        if (size := size_of(body)) > model.context:
            raise Wrong(f"prompt is too long: {size} tokens > {model.context} maximum")
        return body

    def unknown_model(self, model: str) -> Wrong:
        if self.host.native or self.host.lists:
            return Wrong(f"model: {model}", status=404)
        return Wrong("Unknown model, please check the model code.", code=1211)

    def reply(
        self, heard: Heard, place: Place | None, account: Account | None, body: Json, trace: str, now: float
    ) -> Reply:
        """The answer that should go out."""
        if place is None:
            return self.host.lost(trace)
        if place is Place.QUOTA and self.host.monitor:
            return self.host.monitor[1](account, now)
        if account is None:
            return self.host.unknown_key(bool(self.keys(heard)), trace)
        account.roll(now)
        if place is Place.MODELS:
            return self.models(account, heard, trace)
        if place is Place.COUNT_TOKENS:
            model = account.models.get(str(body.get("model")))
            return document(200, {"input_tokens": size_of(body) if model is None or model.counts else 0})
        if account.concurrency is not None and account.in_flight >= account.concurrency:
            return self.host.crowded(trace)
        if window := account.exhausted():
            return self.host.exhausted(account, window, trace, now)
        return self.say(account, body, trace, now)

    def models(self, account: Account, heard: Heard, trace: str) -> Reply:
        """The list, page by page, or one of it."""
        path, _, query = heard.target.partition("?")
        entries = [
            {"type": "model", "id": model.id, "display_name": model.name, "created_at": "2026-01-01T00:00:00Z"}
            for model in account.models.values()
        ]
        if name := unquote(path.removeprefix(self.host.prefix + "/v1/models").strip("/")):
            one = next((entry for entry in entries if entry["id"] == name), None)
            return document(200, one) if one else self.host.refuse(Wrong(f"model: {name}", 404), trace)
        asked = {key: values[0] for key, values in parse_qs(query).items()}
        ids = [entry["id"] for entry in entries]
        limit = int(asked["limit"]) if asked.get("limit", "").isdigit() else 20
        start, end = 0, len(entries)
        if (after := asked.get("after_id")) in ids:
            start = ids.index(str(after)) + 1
        elif (before := asked.get("before_id")) in ids:
            end = ids.index(str(before))
            start = max(0, end - limit)
        shown = entries[start:end][:limit]
        more = start > 0 if "before_id" in asked else start + len(shown) < end
        edges = {"first_id": shown[0]["id"] if shown else None, "last_id": shown[-1]["id"] if shown else None}
        return document(200, {"data": shown, "has_more": more, **edges}, (("request-id", trace),))

    def say(self, account: Account, body: Json, trace: str, now: float) -> Reply:
        """The account's next answer to this body, charged to its windows."""
        answer = account.answer(body)
        message = self.bind(answer, body, account, now)
        account.charge(message.usage, now)
        headers = (("request-id", trace), *self.host.limits(account, now)) if self.host.native else ()
        if not body.get("stream"):
            shown = document(200, message.document(), headers)
            return Reply(shown.status, shown.headers, shown.parts, answer.delay)
        parts = tuple(sse(event) for event in message.events())
        return Reply(200, (("content-type", SSE), ("cache-control", "no-cache"), *headers), parts, answer.delay, True)

    def bind(self, answer: Answer, body: Json, account: Account, now: float) -> Message:
        """An answer with the ids, signatures and counts of this host and this request."""
        thinking = body.get("thinking")
        hidden = isinstance(thinking, dict) and thinking.get("display") == "omitted"
        blocks = tuple(self.block(block, hidden=hidden and self.host.native) for block in answer.blocks)
        cached = account.cache.count(body, now)
        counted = Usage(cached.fresh, cached.read, cached.written, answer.tokens)
        return Message(
            id=f"msg_{self.unique()}",
            model=answer.model or str(body.get("model")),
            blocks=blocks,
            answer=answer,
            usage=answer.usage or counted,
            safeguards=verdicts(blocks) if self.host.native and "safeguards" in body else None,
            late_usage=self.host.late_usage,
        )

    def block(self, block: Block, *, hidden: bool) -> Json:
        match block:
            case Text(text):
                return {"type": "text", "text": text}
            case Thinking(text, signature):
                text = "" if hidden else text
                return {"type": "thinking", "thinking": text, "signature": self.sign(text, signature)}
            case Redacted(data):
                self._issued.add(data)
                return {"type": "redacted_thinking", "data": data}
            case ToolUse(name, given, id):
                return {"type": "tool_use", "id": id or self.host.tool_id(self.unique()), "name": name, "input": given}
            case Raw(raw):
                return dict(raw)

    def unique(self) -> str:
        """Letters and digits nobody here has had before, and the same on every run."""
        return hashlib.sha256(f"{self.host.name} {next(self._ids)}".encode()).hexdigest()[:22]

    def sign(self, text: str, given: str | None = None) -> str:
        """A signature of thinking, good at this host alone; one that was given is remembered as issued."""
        if given is not None:
            self._issued.add(given)
            return given
        if not self.host.signs:
            return ""
        issuer = "anthropic" if self.host.native else self.host.name
        mark = hashlib.sha512(f"{issuer} {text}".encode()).digest()
        return b64encode(b"SANDBOX" + mark).decode()

    def genuine(self, block: Json) -> bool:
        """Whether a thinking block is one this host issued, unchanged."""
        if block["type"] == "redacted_thinking":
            return block.get("data") in self._issued
        signature = block["signature"]
        known = signature in self._issued or signature.startswith(FIXTURES[:-1])
        return known or signature == self.sign(str(block.get("thinking")))


def loose(heard: Heard) -> Json:
    """A body where no rules hold: an object if it is one."""
    try:
        return read_body(heard)
    except Wrong:
        return {}


def verdicts(blocks: tuple[Json, ...]) -> list[Json]:
    """Every tool use looked at, none flagged."""
    uses = {
        block["id"]: {"type": "evaluated", "outcome": "not_flagged"} for block in blocks if block["type"] == "tool_use"
    }
    return [{"type": "dangerous_tool_use", "status": {"type": "available", "tool_uses": uses}}]
