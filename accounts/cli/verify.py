"""`proxy accounts verify`"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from accounts.cli import names, render
from accounts.cli.flags import Exit, Json, Ports
from accounts.cli.text import kind, printable
from accounts.model import Account, ClaudeCodeLogin, Credential, Entry, Verdict, Works, same_credential, secrets_of

if TYPE_CHECKING:
    from accounts.vault.vault import Vault

EXAMPLES = """Examples:

```
proxy accounts verify
proxy accounts verify zai/work kimi/default
proxy accounts verify --json
```"""


@dataclass(frozen=True, slots=True)
class Checked:
    """What a provider said of one account."""

    account: Account
    credential: Credential
    verdict: Verdict


def register(app: App, ports: Ports) -> None:
    """Add the command."""

    @app.command(help_epilogue=EXAMPLES)
    def verify(
        *name: Annotated[str, Parameter(help="Ids, labels or provider/label; all accounts if none.")],
        json: Json = False,
    ) -> int:
        """Ask each provider whether the credential works.

        Spends no tokens. An account whose credential is refused is marked invalid and not used; one that works
        again loses the mark. What the provider says of an account that has to be known to use it is kept.

        Exit status: 0 only if all work; 4 if one is refused; 6 if one cannot be reached; 3 where there is
        no such account.
        """
        vault = ports.open_vault()
        entries = (*vault.entries(), *ports.extra_entries())
        chosen = [names.entry(one, entries) for one in name] if name else list(entries)
        checked = []
        for number, entry in enumerate(chosen, 1):
            ports.terminal.show(f"[{number}/{len(chosen)}] asking about {entry.account.name} …")
            verdict = ask(ports, entry.account, entry.credential)
            mark(vault, entry, verdict)
            checked.append(Checked(entry.account, entry.credential, verdict))
        if json:
            render.write_json(ports.terminal, accounts=[document(one) for one in checked])
        elif checked:
            rows = [(one.account.name, kind(one.credential), one.verdict.works.value) for one in checked]
            render.write_table(ports.terminal, ("Account", "Credential", "Answer"), rows)
            render.write_notes(ports.terminal, [(one.account.name, one.verdict.detail) for one in checked])
        else:
            ports.terminal.show("No accounts yet. Add one: proxy accounts add")
        return outcome([one.verdict.works for one in checked])


def ask(ports: Ports, account: Account, credential: Credential) -> Verdict:
    """The provider's verdict, with the secrets themselves struck out of what the provider wrote."""
    verdict = ports.verify(account, credential)
    return replace(verdict, detail=without_secrets(verdict.detail, credential))


def without_secrets(said: str, credential: Credential) -> str:
    """What somebody else wrote, fit to be shown."""
    for secret in secrets_of(credential):
        said = said.replace(secret.reveal(), "…")
    return printable(said)


def mark(vault: Vault, entry: Entry, verdict: Verdict) -> None:
    """Keep what the provider said, unless the account was removed or given another credential meanwhile.

    What was minted from the credential to ask with is still the same one, even where its old one is dead by that.
    """
    ours = (entry.credential, verdict.credential)
    if verdict.works is Works.UNREACHABLE:
        return
    invalid = (verdict.detail or "refused by the provider") if verdict.works is Works.REFUSED else None

    if isinstance(entry.credential, ClaudeCodeLogin):
        invalid = None  # its own program renews it any time: a mark would outlive the reason

    def marked(known: Entry) -> Entry:
        if known.account.id != entry.account.id or not any(same_credential(known.credential, one) for one in ours):
            return known
        extra = {**known.account.extra, **verdict.learnt}
        return Entry(replace(known.account, invalid=invalid, extra=extra), known.credential)

    vault.edit(lambda entries: tuple(marked(known) for known in entries))


def outcome(works: list[Works]) -> Exit:
    """The exit code for these verdicts: a refusal is worse than silence."""
    if not works:
        return Exit.NOTHING
    if Works.REFUSED in works:
        return Exit.SIGN_IN
    return Exit.UNREACHABLE if Works.UNREACHABLE in works else Exit.OK


def document(checked: Checked) -> dict[str, str | None]:
    """One verdict as JSON values."""
    account = checked.account
    return {
        "id": account.id,
        "provider": account.provider,
        "label": account.label,
        "credential": checked.verdict.works.value,
        "detail": checked.verdict.detail or None,
    }
