"""A provider of the tests whose accounts sign in on a page, and the program with it in place of the real ones.

It serves Anthropic Messages behind a bearer token, and has to be told a project that it says itself.
Run as a program it is `proxy`; `FAILPOINT` in its environment kills it at a moment.
"""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

from accounts.model import (
    Account,
    AccountId,
    BrowserSignIn,
    OAuthClient,
    OAuthGrant,
    Secret,
    Token,
    Verdict,
    Works,
)
from mcp_proxy.cli.adapters import open_vault
from mcp_proxy.core.failure import Blame, Failure, Refusal, error_type
from mcp_proxy.core.http import Transport, UpstreamRequest, read_all
from mcp_proxy.core.ids import ModelId, ProviderName
from mcp_proxy.core.provider import Access, Offer, Provider, Serves
from mcp_proxy.core.time import Instant
from mcp_proxy.dialects.native import credential, native_request
from mcp_proxy.providers._oauth import refreshing
from tests.e2e.harness import settings
from tests.faults.upstream import Upstream

NAME = ProviderName("antigravity")
PROGRAM = (sys.executable, "-m", "tests.faults.granted")
CLIENT = OAuthClient("client-of-a-test", Secret("sk-fake-client-secret"))


async def _verify(transport: Transport, access: Access, now: Instant) -> Verdict:
    own = credential(access.auth, access.token.value.reveal())
    response = await transport.send(UpstreamRequest("GET", f"{access.base_url}/v1/me", (own,), read_timeout=5.0))
    body = (await read_all(response, 1000)).decode()
    if response.status == 200:
        return Verdict(Works.YES, learnt={"project": body})
    return Verdict(Works.REFUSED if response.status in (401, 403) else Works.UNREACHABLE, body)


def _failure(refusal: Refusal, offer: Offer, now: Instant) -> Failure:
    blame = Blame.TOKEN if refusal.status == 401 else Blame.PROVIDER
    return Failure(blame, refusal.status, error_type(refusal.status), refusal.body.decode())


FORM = Provider(
    name=NAME,
    title="Granted",
    base_url="http://127.0.0.1:1",
    auth="bearer",
    sign_in=BrowserSignIn(
        authorize_url="http://127.0.0.1:1/authorize",
        token_url="http://127.0.0.1:1/token",
        userinfo_url="http://127.0.0.1:1/userinfo",
        scopes=("all",),
        client_names=("GOOGLE_CLIENT_ID", "GOOGLE_CLIENT_SECRET"),
    ),
    serves=Serves((Offer(ModelId("claude-sonnet-5")),)),
    request=native_request(to_anthropic=False),
    read_failure=_failure,
    verify=_verify,
    mint=refreshing("http://127.0.0.1:1/token"),
    needs=("project",),
)


def providers() -> dict[ProviderName, Provider]:
    return {NAME: FORM}


def toml(up: Upstream) -> str:
    return f'[providers.antigravity]\ntoken_url = "{up.url("/token")}"\n'


def granted(label: str, left: float | None = None, now: float = 0.0) -> OAuthGrant:
    """A person's consent, with a token that has `left` seconds to live; None: without one."""
    token = None if left is None else Token(Secret(f"sk-fake-stored-token-of-{label}"), now + left)
    return OAuthGrant(Secret(f"sk-fake-refresh-of-{label}"), CLIENT, token)


def store_granted(home: Path, up: Upstream, *grants: OAuthGrant, known: bool = True) -> None:
    """Put an account `a0`, `a1` … for each grant into the store, asked in that order."""
    vault = open_vault(settings(home, toml(up)))
    account = Account(AccountId("0"), NAME, "a", base_url=up.url(""), extra={"project": "p-0"} if known else {})
    for number, grant in enumerate(grants):
        label = f"a{number}"
        vault.add(replace(account, id=AccountId(f"id-{label}"), label=label, tier=number + 1), grant)


def _die(*words: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def main() -> int:
    import mcp_proxy.providers as real

    real.all_providers = providers
    import mcp_proxy.cli.adapters as adapters
    from mcp_proxy.cli.ledger import VaultLedger

    adapters.all_providers = providers
    if os.environ.get("FAILPOINT") == "minted":
        VaultLedger.renew = _die  # type: ignore[method-assign]
    if os.environ.get("FAILPOINT") == "saved":
        renew = VaultLedger.renew

        def saved(*words: object) -> None:
            renew(*words)  # type: ignore[arg-type]
            _die()

        VaultLedger.renew = saved  # type: ignore[method-assign]
    from mcp_proxy.__main__ import main

    return main()


if __name__ == "__main__":
    sys.exit(main())
