"""A simulated Google at work: its sign-in and its Cloud Code, without a socket."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import parse_qsl

from mcp_proxy.core.usage import Usage
from mcp_proxy.sandbox.accounts import Account, Model, Place, Window, begun
from mcp_proxy.sandbox.answers import Answer, Json, say
from mcp_proxy.sandbox.google import cloud, oauth, rules, signing
from mcp_proxy.sandbox.google.account import GoogleAccount, with_lengths
from mcp_proxy.sandbox.google.host import NOT_FOUND, Google, quota_used_up
from mcp_proxy.sandbox.google.models import Family, GoogleModel, Kind
from mcp_proxy.sandbox.google.proto import read
from mcp_proxy.sandbox.google.refusals import verification_body
from mcp_proxy.sandbox.google.speech import Counted, Speech, data
from mcp_proxy.sandbox.google.voice import as_anthropic, found_on_the_web, google_voice, picture
from mcp_proxy.sandbox.google.wrongs import Denied, clueless, google_error, told_of, unknown_name
from mcp_proxy.sandbox.replies import SSE, Reply, document
from mcp_proxy.sandbox.service import Service
from mcp_proxy.sandbox.strict import Rules, read_body
from mcp_proxy.sandbox.wire import Heard
from mcp_proxy.sandbox.wrongs import Wrong

CALL = "/v1internal:"
STREAM = "streamGenerateContent"
PLACES = {
    STREAM: Place.MESSAGES,
    "generateContent": Place.MESSAGES,
    "countTokens": Place.COUNT_TOKENS,
    "fetchAvailableModels": Place.MODELS,
    "retrieveUserQuotaSummary": Place.QUOTA,
    "loadCodeAssist": Place.PROJECT,
    "onboardUser": Place.ONBOARD,
}
MESSAGES = {
    Place.MESSAGES: "Envelope",
    Place.COUNT_TOKENS: "Counting",
    Place.MODELS: "OfProject",
    Place.QUOTA: "OfProject",
    Place.PROJECT: "Load",
    Place.ONBOARD: "Onboard",
}
HEADERS = (  # noqa: SIM905 - words read best as words
    "accept accept-encoding authorization connection content-length content-type host transfer-encoding user-agent "
    "x-goog-api-client"
).split()
ONCE = ("authorization", "content-type", "content-length", "host", "user-agent")
CLIENT = re.compile(r"antigravity/(?:(hub|cli)/)?(\d+(?:\.\d+)*)\b")
UPGRADE = "This version of Antigravity is no longer supported. Please update/upgrade to receive the latest features!"


@dataclass(slots=True, eq=False, kw_only=True)
class GoogleService(Service):
    """Google with its accounts.

    sign_in  its sign-in: who sits before the page, and what was given out
    """

    sign_in: oauth.SignIn = field(default_factory=oauth.SignIn)

    def __post_init__(self) -> None:
        self.sign_in.lenient = self.rules < Rules.ALL

    @property
    def row(self) -> Google:
        assert isinstance(self.host, Google)  # noqa: S101 - the table makes no other
        return self.host

    def settings(self) -> dict[str, str]:
        """The environment in which the proxy finds this Google in place of the real one."""
        start, base = "MCP_PROXY_PROVIDERS__ANTIGRAVITY__", f"http://{self.authority}"
        client = self.sign_in.client
        return {
            f"{start}BASE_URLS": base,
            f"{start}AUTHORIZE_URL": base + oauth.AUTHORIZE,
            f"{start}TOKEN_URL": base + oauth.TOKEN,
            f"{start}USERINFO_URL": base + oauth.USERINFO[0],
            "GOOGLE_CLIENT_ID": client.id,
            "GOOGLE_CLIENT_SECRET": client.secret.reveal() if client.secret else "",
        }

    def account(
        self,
        alias: str | None,
        key: str | None,
        models: Iterable[str | Model] | None,
        windows: Iterable[Window] | None,
        now: float,
        **more: Any,
    ) -> GoogleAccount:
        """A new account with one grant. more: fields of `GoogleAccount`."""
        number = len(self.accounts) + 1
        alias = alias or f"{self.host.name}-{number}"
        key = key or self.host.key.format(n=number)
        listed = self.host.models if models is None else tuple(self._model(model) for model in models)
        more = {"email": f"{alias}@example.com", "project": f"cogent-sandbox-{number}", **more}
        made = GoogleAccount(
            alias=alias,
            key=key,
            models={model.id: model for model in listed},
            windows=begun(with_lengths(self.host.windows() if windows is None else windows), now),
            client=self.sign_in.client,
            **more,
        )
        self.sign_in.grant(made, key)
        self.accounts[key] = made
        return made

    def access(self, account: GoogleAccount) -> str:
        """An access token that is good for as long as the sandbox lives, for who asks without a sign-in."""
        value = self.sign_in.access(account, 0.0)
        account.tokens[value].expires_at = float("inf")
        return value

    def _model(self, model: str | Model) -> Model:
        if isinstance(model, Model):
            return model
        return next((known for known in self.host.models if known.id == model), GoogleModel(model, model))

    @property
    def people(self) -> list[GoogleAccount]:
        return [account for account in self.accounts.values() if isinstance(account, GoogleAccount)]

    # Whose request it is, and whether it is in order

    def place(self, path: str) -> Place | None:
        if path in oauth.USERINFO:
            return Place.USERINFO
        own = {oauth.AUTHORIZE: Place.AUTHORIZE, oauth.TOKEN: Place.TOKEN}
        return own.get(path) or (PLACES.get(path.removeprefix(CALL)) if path.startswith(CALL) else None)

    def owner(self, heard: Heard, now: float) -> Account | None:
        """Whose access token, code or refresh token a request carries, if it is good."""
        match self.place(heard.target.partition("?")[0]):
            case Place.TOKEN:
                return self.sign_in.about(heard)
            case Place.AUTHORIZE:
                asked = dict(parse_qsl(heard.target.partition("?")[2]))
                return self.sign_in.chosen(asked, self.people)
        for key in self.keys(heard):
            for account in self.people:
                if account.holds(key, now) and not account.revoked:
                    return account
                account.unauthorized += key in account.tokens
        return None

    def check(self, heard: Heard, place: Place | None, account: Account | None, now: float) -> Json:
        """What the request says, in camelCase. Raises `Wrong`."""
        if place is None:
            return {}
        if place is Place.AUTHORIZE:
            return dict(self.sign_in.check_page(heard)) if heard.method in ("GET", "HEAD") else _method()
        if place is Place.TOKEN:
            return self._form(heard, now) if heard.method == "POST" else _method()
        if place is Place.USERINFO:
            return {} if heard.method == "GET" else _method()
        if self.rules >= Rules.ALL:
            check_manners(heard, self.authority, place)
        if heard.method != "POST":
            return _method()
        if account is None or self.rules < Rules.REAL:
            return _loose(heard, MESSAGES[place])
        assert isinstance(account, GoogleAccount)  # noqa: S101 - none other is made here
        return self._check_call(heard, place, account)

    def _form(self, heard: Heard, now: float) -> Json:
        try:
            return dict(self.sign_in.check_form(heard, now))
        except Wrong:
            if account := self.sign_in.about(heard):
                account.refused += 1
            raise

    def _check_call(self, heard: Heard, place: Place, account: GoogleAccount) -> Json:
        if heard.value("x-goog-user-project"):
            raise Denied("Caller does not have required permission to use the project.", 403)
        body: Json = read(_json(heard), MESSAGES[place])
        if place in (Place.MESSAGES, Place.MODELS, Place.QUOTA):
            cloud.check_project(account, body, needed=place is Place.MESSAGES)
        if place is Place.ONBOARD:
            cloud.check_onboarding(body)
        if place is Place.COUNT_TOKENS and not body.get("request", {}).get("contents"):
            raise Denied("at least one contents field is required")
        if place is Place.MESSAGES:
            self._check_generate(heard, body, account)
        return body

    def _check_generate(self, heard: Heard, body: Json, account: GoogleAccount) -> None:
        model = account.find(body.get("model", ""))
        kind, version = client_of(heard)
        late = kind in ("", "hub") and version < self.row.recent
        if model is None or kind is None or model.kind is Kind.INTERNAL or (model.late and late):
            raise Denied(NOT_FOUND, 404, blame=f"not for this client or account: {body.get('model')}")
        if body.get("enabledCreditTypes") and not account.credits:
            raise clueless("enabledCreditTypes: nobody allowed that to be spent")
        request = body.get("request")
        if request is None:
            raise clueless("request: is missing")
        rules.check_envelope(body)
        rules.check_request(request, model, str(body.get("requestType")), self.genuine_thought)
        if (tokens := cloud.tokens_of(request)) > model.context:
            raise cloud.too_long(tokens, model.context, model.family is Family.CLAUDE)

    def genuine_thought(self, family: Family, material: str, signature: str) -> bool:
        given = signature in self._issued and signing.maker(signature) in (family, None)
        return given or signing.genuine(family, material, signature)

    # What is answered

    def complaint(self, wrong: Wrong) -> str | None:
        return told_of(wrong)

    def reply(
        self, heard: Heard, place: Place | None, account: Account | None, body: Json, trace: str, now: float
    ) -> Reply:
        if place is None:
            return self.host.lost(trace)
        if place is Place.AUTHORIZE:
            return self.sign_in.ask_person(body, self.people, heard.target, now)
        if not isinstance(account, GoogleAccount):
            return self.host.unknown_key(bool(self.keys(heard)), trace)
        account.roll(now)
        match place:
            case Place.TOKEN:
                return self.sign_in.give(body, account, now)
            case Place.USERINFO:
                return oauth.userinfo(account)
            case Place.PROJECT:
                return cloud.load(account, body)
            case Place.ONBOARD:
                return cloud.onboard(account, body)
            case Place.MODELS:
                return cloud.models(account)
            case Place.QUOTA:
                return cloud.summary(account)
            case Place.COUNT_TOKENS:
                return document(200, {"totalTokens": cloud.tokens_of(body.get("request", {}).get("contents", []))})
        streams = heard.target.partition("?")[0].endswith(STREAM)
        return self._generate(heard, account, body, now, streams).having(("x-cloudaicompanion-trace-id", trace))

    def _generate(self, heard: Heard, account: GoogleAccount, body: Json, now: float, streams: bool) -> Reply:
        model = account.find(str(body.get("model"))) or GoogleModel("unknown", "Unknown")
        if account.concurrency is not None and account.in_flight >= account.concurrency:
            return self.host.crowded("")
        kind, version = client_of(heard)
        if account.wary and kind == "hub":
            return document(403, verification_body())
        if kind is not None and version < dict(self.row.oldest)[kind]:
            return self._speak(say(UPGRADE), account, model, body, now, streams)
        if window := account.spent(model.family.pool, now):
            seconds = max(0.0, (window.resets_at or now) - now)
            return google_error(429, *quota_used_up(seconds, now, model.id))
        return self._speak(None, account, model, body, now, streams)

    def _speak(
        self, answer: Answer | None, account: GoogleAccount, model: GoogleModel, body: Json, now: float, streams: bool
    ) -> Reply:
        """The account's next answer to this body, charged to its windows."""
        request = body.get("request", {})
        grounding: Json | None = None
        if answer is None:
            answer, grounding = self._answer(account, model, body, request)
        prompt, cached = cloud.cached(account, model.id, request, now)
        thoughts = bool(request.get("generationConfig", {}).get("thinkingConfig", {}).get("includeThoughts"))
        thought = sum(len(getattr(block, "text", "")) for block in answer.blocks if type(block).__name__ == "Thinking")
        counted = Counted(prompt, cached, max(1, answer.tokens - thought // 4), thought // 4 if thoughts else 0)
        if answer.usage is not None:
            usage = answer.usage
            total = usage.input + usage.cache_read + usage.cache_write
            counted = Counted(total, usage.cache_read, usage.output, 0)
        account.pay(model.family.pool, Usage(counted.prompt - cached, cached, 0, counted.said + counted.thought), now)
        speech = Speech(
            answer, model, counted, self.unique(), thoughts, self._call_id(model), self._issued.add, grounding
        )
        if not streams:
            return replace(document(200, speech.document()), delay=answer.delay)
        parts = tuple(data(chunk) for chunk in speech.chunks())
        return Reply(200, (("content-type", SSE), ("cache-control", "no-cache")), parts, answer.delay, True)

    def _call_id(self, model: GoogleModel) -> Any:
        start = "toolu_vrtx_01" if model.family is Family.CLAUDE else "call_"
        return lambda: start + self.unique()

    def _answer(
        self, account: GoogleAccount, model: GoogleModel, body: Json, request: Json
    ) -> tuple[Answer, Json | None]:
        """What an account says: what a test gave it, else what the request itself asks for."""
        asked = as_anthropic(request, model.id)
        calling = request.get("toolConfig", {}).get("functionCallingConfig", {})
        names = [tool["name"] for tool in asked["tools"]]
        forced = tuple(calling.get("allowedFunctionNames", names)) if calling.get("mode") == "ANY" else ()
        if account.told or account.voice is not None:
            return account.answer(asked), None
        if body.get("requestType") == "web_search":
            return found_on_the_web(asked["messages"][-1]["content"][-1]["text"], account.alias)
        if body.get("requestType") == "image_gen":
            return picture(), None
        return google_voice(account.alias, forced)(asked), None


def client_of(heard: Heard) -> tuple[str | None, tuple[int, ...]]:
    """Which of Google's own programs asks, and its version; kind None: none of them."""
    found = CLIENT.match(heard.value("user-agent") or "")
    if found is None:
        return None, ()
    return found[1] or "", tuple(int(number) for number in found[2].split("."))


def check_manners(heard: Heard, authority: str, place: Place) -> None:
    """What only a careless proxy sends. Stricter than the real one. Raises `Denied`."""
    for name in (key.lower() for key, _ in heard.headers):
        if name not in HEADERS and name != "x-goog-user-project":
            raise Denied(f"{name}: this header must not reach Google")
    for name in ONCE:
        if len(heard.values(name)) > 1:
            raise Denied(f"{name}: sent more than once")
    if (encoding := heard.value("accept-encoding")) not in (None, "identity"):
        raise Denied(f"accept-encoding: must be identity, not {encoding}")
    if (connection := heard.value("connection")) not in (None, "keep-alive", "close"):
        raise Denied(f"connection: names {connection}, which stays with its own hop")
    if (host := heard.value("host")) != authority:
        raise Denied(f"host: is {host}, not {authority}")
    if heard.value("user-agent") is None:
        raise Denied("user-agent: is missing")
    path, _, query = heard.target.partition("?")
    if query != ("alt=sse" if path.endswith(STREAM) else ""):
        raise unknown_name(query or "alt", "")


def _json(heard: Heard) -> Json:
    try:
        return read_body(heard)
    except Wrong as wrong:
        raise Denied(f"Invalid JSON payload received. {wrong.message}", wrong.status) from wrong


def _loose(heard: Heard, kind: str) -> Json:
    """A body that nobody looks into closely; of what cannot be read no more than the model."""
    try:
        body = read_body(heard)
        found: Json = read(body, kind)
    except Denied:
        return {"model": body.get("model")}
    except Wrong:
        return {}
    return found


def _method() -> Json:
    raise Denied("Method not allowed.", 405)
