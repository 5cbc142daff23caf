"""The `proxy accounts` command over a store in a folder, with a provider that answers by what the key says.

Google is a provider too where `TEST_GOOGLE` says at which address it stands in for the real one.

Also a program: `python -m tests.accounts.cli.program HOME WORDS…`. A key with `refused` in it is refused, one with
`unreachable` cannot be checked, one with `interrupt` is as if Ctrl-C was typed; every other works.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from accounts.cli import AccountState, Ports, ProviderInfo, build, run
from accounts.model import (
    Account,
    AccountId,
    ApiKey,
    ApiKeySignIn,
    ClaudeCodeLogin,
    Credential,
    Entry,
    OAuthClient,
    OAuthGrant,
    Secret,
    Verdict,
    Works,
)
from accounts.vault.vault import Vault
from tests.accounts.sign_in.google import CLIENT, Google

NOW = 1_800_000_000.0
CONFIGURED = Entry(
    Account(id=AccountId("cfg001"), provider="zai", label="from-config"), ApiKey(Secret("sk-fake-of-the-config-file"))
)
PROVIDERS = {
    info.name: info
    for info in (
        ProviderInfo("zai", "Z.AI", ApiKeySignIn("https://keys.example/zai"), base_url="https://zai.example"),
        ProviderInfo("kimi", "Kimi", ApiKeySignIn(notice="Kimi forbids this in its terms.")),
        ProviderInfo("custom", "Any Anthropic endpoint", ApiKeySignIn(), needs_base_url=True),
    )
}


VERIFICATION = f"https://accounts.example/verify?continue={'x' * 150}&plt=1"
"""Longer than a terminal is wide."""


def google(url: str) -> ProviderInfo:
    return ProviderInfo(
        "antigravity",
        "Google",
        Google(url).recipe(port=0, terms="Google's terms forbid this."),
        base_url="https://cloud.example",
    )


def providers() -> dict[str, ProviderInfo]:
    url = os.environ.get("TEST_GOOGLE")
    return PROVIDERS if url is None else {**PROVIDERS, "antigravity": google(url)}


def oauth_client(provider: str) -> OAuthClient | None:
    return CLIENT if provider == "antigravity" and "TEST_CLIENT" in os.environ else None


def verdict(account: Account, credential: Credential) -> Verdict:
    if isinstance(credential, OAuthGrant):
        return granted(account, credential)
    if isinstance(credential, ClaudeCodeLogin):
        return Verdict(Works.YES)
    assert isinstance(credential, ApiKey), "there is nothing to ask about"
    text = credential.key.reveal()
    if "refused" in text:
        return Verdict(Works.REFUSED, f"401 invalid key {text}\x1b[31m")
    if "unreachable" in text:
        return Verdict(Works.UNREACHABLE, "no answer within 10 s")
    if "interrupt" in text:
        raise KeyboardInterrupt
    return Verdict(Works.YES)


def granted(account: Account, grant: OAuthGrant) -> Verdict:
    """By who signed in: `banned@…`, `away@…`, and everybody else, whose project is learnt."""
    assert grant.token is not None
    who = account.extra.get("email", account.label)
    if who.startswith("banned@"):
        return Verdict(Works.REFUSED, f"verify your account at {VERIFICATION} (token {grant.token.value.reveal()})")
    if who.startswith("away@"):
        return Verdict(Works.UNREACHABLE, "no answer within 10 s")
    return Verdict(Works.YES, learnt={"project": f"project-of-{who}", "plan": "free"})


def ports(home: Path, **fields: object) -> Ports:
    from tests.accounts.kit import vault_in

    def open_vault() -> Vault:
        return vault_in(home, key=os.environ.get("TEST_VAULT_KEY"))

    given: dict[str, object] = {
        "open_vault": open_vault,
        "providers": providers(),
        "verify": verdict,
        "limits": dict[AccountId, AccountState],
        "server_running": lambda: False,
        "extra_entries": lambda: (),
        "now": lambda: NOW,
        "oauth_client": oauth_client,
        "claude_login": lambda: ClaudeCodeLogin("/home/someone/login") if "TEST_LOGIN" in os.environ else None,
        "export_passphrase": lambda: Secret(os.environ["TEST_EXPORT"]) if "TEST_EXPORT" in os.environ else None,
    }
    return Ports(**{**given, **fields})  # type: ignore[arg-type]


def call(made: Ports, *words: str) -> int:
    return run(build(made), list(words))


if __name__ == "__main__":
    started = time.monotonic()
    sys.exit(call(ports(Path(sys.argv[1])), *sys.argv[2:]))
