"""`proxy accounts add`"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter
from cyclopts.validators import Number

from accounts.cli import consent, verify
from accounts.cli.checks import checked_base_url, checked_label, checked_model
from accounts.cli.flags import Exit, Flag, NoInput, Ports, Yes
from accounts.cli.identity import free_label, fresh_id, new_id
from accounts.cli.ports import ProviderInfo
from accounts.cli.terminal import StandardTerminal
from accounts.cli.text import kind, repeatable
from accounts.exits import Trouble
from accounts.labels import fitting
from accounts.model import (
    Account,
    ApiKeySignIn,
    Auth,
    BrowserSignIn,
    CallersOwn,
    CallersSignIn,
    Credential,
    Entry,
    Verdict,
    Works,
    same_credential,
)
from accounts.sign_in import api_key

if TYPE_CHECKING:
    from accounts.vault.vault import Vault

EXAMPLES = """Examples:

```
proxy accounts add
proxy accounts add --provider zai --label work
proxy accounts add --provider kimi --api-key-stdin < key.txt
proxy accounts add --provider antigravity --no-browser
proxy accounts add --provider claude-subscription
proxy accounts add --provider custom --base-url https://llm.example.com --auth bearer --model glm-4.7
```"""


@dataclass(frozen=True, slots=True)
class Wanted:
    """The account as the command line describes it; None and empty: not said.

    email   whose it is, where the provider says so at the sign-in
    learnt  what the provider said of it when it was asked
    """

    provider: str
    label: str | None
    tier: int | None
    base_url: str | None
    auth: Auth | None
    models: tuple[str, ...]
    email: str | None = None
    learnt: Mapping[str, str] = field(default_factory=dict)


def register(app: App, ports: Ports) -> None:
    """Add the command."""

    @app.command(help_epilogue=EXAMPLES)
    def add(
        *,
        provider: Annotated[str | None, Parameter(help="Which provider; asked with a menu if not given.")] = None,
        label: Annotated[
            str | None, Parameter(help="Your own name for the account; its e-mail, or `default`, if not given.")
        ] = None,
        tier: Annotated[
            int | None,
            Parameter(validator=Number(gte=0), help="Lower is tried first; the provider's tier if not given."),
        ] = None,
        base_url: Annotated[str | None, Parameter(help="Another address than the provider's own.")] = None,
        auth: Annotated[
            Auth | None, Parameter(help="Which header carries the key; the provider's way if not given.")
        ] = None,
        model: Annotated[
            list[str] | None,
            Parameter(consume_multiple=True, negative="", help="The only model ids it serves; all if not given."),
        ] = None,
        api_key_stdin: Annotated[Flag, Parameter(help="Read the key from one line of stdin.")] = False,
        no_browser: Annotated[
            Flag, Parameter(help="Open no browser: only ask for the code, or read it from stdin.")
        ] = False,
        from_claude_code: Annotated[
            Flag, Parameter(help="Use the login of Claude Code on this machine: claude-subscription's last resort.")
        ] = False,
        no_verify: Annotated[Flag, Parameter(help="Store it without asking the provider about it.")] = False,
        yes: Yes = False,
        no_input: NoInput = False,
    ) -> int:
        """Sign in and store an account.

        A key is asked for unseen, or read from stdin; it is never an argument. Where a provider is signed in to on
        its page, that is opened in a browser, and the answer comes from there or is pasted. For claude-subscription
        nothing is asked: each request brings its caller's own login. The provider is asked whether it works,
        without spending tokens, before it is stored. Adding the same account again (its label,
        its e-mail, or the same key at the same address) replaces its credential.

        Exit status: 0 stored; 1 you did not agree to go on; 2 usage; 4 the provider refused the key or the sign-in;
        6 it could not be reached, or not say yet. Nothing is stored after 1, 4 and 6.
        """
        terminal = ports.terminal.asking_unless(no_input)
        recipe = chosen_provider(provider, ports, terminal)
        wanted = Wanted(
            provider=recipe.name,
            label=None if label is None else checked_label(label),
            tier=tier,
            base_url=address(base_url, recipe, terminal),
            auth=auth,
            models=tuple(dict.fromkeys(checked_model(one) for one in model or ())),
        )
        how = How(key_on_stdin=api_key_stdin, browse=not no_browser, yes=yes, read_login=from_claude_code)
        return sign_in(ports, terminal, recipe, wanted, how, check=not no_verify)


@dataclass(frozen=True, slots=True)
class How:
    """How the command line wants the sign-in to go."""

    key_on_stdin: bool
    browse: bool
    yes: bool
    read_login: bool = False


def sign_in(
    ports: Ports, terminal: StandardTerminal, provider: ProviderInfo, wanted: Wanted, how: How, *, check: bool
) -> int:
    """Get the credential, have it checked, store it."""
    vault = ports.open_vault()
    extra = ports.extra_accounts()
    _refuse_config_label(wanted, extra)
    known = vault.entries()  # opened before anything is asked for: a store that is locked away should say so first
    credential, email = credential_from(ports, terminal, provider, how, known)
    wanted = replace(wanted, email=email)
    if check and not isinstance(credential, CallersOwn):
        account = described(wanted, same_account(wanted, credential, known), known, extra)
        verdict = have_checked(ports, terminal, provider, account, credential)
        wanted, credential = replace(wanted, learnt=verdict.learnt), verdict.credential or credential
    account, replaced = store(vault, wanted, credential, extra)
    verb = "Replaced the credential of" if replaced else "Stored"
    terminal.show(f"{verb} {account.name} (id {account.id}).")
    if wanted.label is None and not replaced:
        terminal.show(f"To call it something else: proxy accounts rename {account.name} NEW")
    if not account.enabled:
        terminal.show(f"It is disabled: proxy accounts enable {account.name}")
    return Exit.OK


def chosen_provider(name: str | None, ports: Ports, terminal: StandardTerminal) -> ProviderInfo:
    """The provider by its name, or by a menu where nothing was said. Raises Trouble."""
    if name is None:
        if not terminal.interactive:
            raise Trouble(f"say which provider: --provider {'|'.join(ports.providers)}", Exit.USAGE)
        name = terminal.choose(
            "Provider (number or name): ", [(one.name, one.title) for one in ports.providers.values()]
        )
    if name not in ports.providers:
        near = difflib.get_close_matches(name, ports.providers, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(ports.providers)}"
        raise Trouble(f"no provider is called {repeatable(name)}; {hint}", Exit.USAGE)
    return ports.providers[name]


def address(base_url: str | None, recipe: ProviderInfo, terminal: StandardTerminal) -> str | None:
    """Where the account is served, checked; None for the provider's own address. Raises Trouble."""
    if base_url is None and recipe.needs_base_url:
        if not terminal.interactive:
            raise Trouble(f"{recipe.name} needs --base-url URL", Exit.USAGE)
        base_url = terminal.ask("Address of the endpoint (https://…): ")
    return None if base_url is None else checked_base_url(base_url)


def credential_from(
    ports: Ports, terminal: StandardTerminal, provider: ProviderInfo, how: How, stored: Sequence[Entry]
) -> tuple[Credential, str | None]:
    """The credential by the provider's way to sign in, and whose it is where that is said.

    Raises Trouble, also where nobody can be asked, and BadKey.
    """
    recipe = ports.recipe(provider)
    if how.read_login and not isinstance(recipe, CallersSignIn):
        raise Trouble(f"{provider.name} is no plan of Claude: leave --from-claude-code out", Exit.USAGE)
    if isinstance(recipe, CallersSignIn):
        return _callers(ports, recipe, terminal, how), None
    if recipe.notice is not None:
        terminal.show(recipe.notice)
    if isinstance(recipe, BrowserSignIn):
        if how.key_on_stdin:
            raise Trouble(f"{provider.name} has no key: sign in on its page, without --api-key-stdin", Exit.USAGE)
        signed_in = consent.consented(ports, terminal, provider, recipe, stored, yes=how.yes, browse=how.browse)
        terminal.show(f"Signed in as {signed_in.email}.")
        return signed_in.grant, signed_in.email
    return _key(recipe, terminal, how.key_on_stdin), None


def _callers(ports: Ports, recipe: CallersSignIn, terminal: StandardTerminal, how: How) -> Credential:
    """Nobody's login, or the one that Claude Code keeps here for its user, who agrees to that."""
    if how.key_on_stdin:
        raise Trouble("a Claude plan has no key: each request brings its caller's own login", Exit.USAGE)
    if not how.read_login:
        terminal.show(recipe.notice)
        return CallersOwn()
    found = ports.claude_login()
    if found is None:
        raise Trouble("Claude Code is not logged in here: run `claude` and type /login", Exit.SIGN_IN)
    consent.agree(terminal, recipe.terms, how.yes)
    return found


def _key(recipe: ApiKeySignIn, terminal: StandardTerminal, from_stdin: bool) -> Credential:
    if from_stdin:
        return api_key.api_key(terminal.read_secret("key"))
    if not terminal.interactive:
        raise Trouble("cannot ask for the key here: give it on stdin with --api-key-stdin", Exit.USAGE)
    return api_key.sign_in(recipe, terminal)


def same_account(wanted: Wanted, credential: Credential, stored: Sequence[Entry]) -> Entry | None:
    """The stored account that this one is: of that label, else of that person, else with the same key there."""
    ours = [entry for entry in stored if entry.account.provider == wanted.provider]
    for entry in ours:
        if entry.account.label == wanted.label:
            return entry
    for entry in ours:
        if wanted.email is not None and _email(entry.account) == wanted.email:
            return entry
    for entry in ours:
        if same_credential(entry.credential, credential) and entry.account.base_url == wanted.base_url:
            return entry
    return None


def described(wanted: Wanted, same: Entry | None, stored: Sequence[Entry], extra: Sequence[Account]) -> Account:
    """The account to store: what was said now, over what was known of it before."""
    learnt = {**wanted.learnt, **({"email": wanted.email} if wanted.email is not None else {})}
    if same is None:
        taken = [*(entry.account for entry in stored), *extra]
        name = None if wanted.email is None else fitting(wanted.email)
        return Account(
            id=fresh_id(taken),
            provider=wanted.provider,
            label=wanted.label or free_label(wanted.provider, taken, name),
            tier=wanted.tier,
            base_url=wanted.base_url,
            auth=wanted.auth,
            models=wanted.models,
            extra=learnt,
        )
    before = same.account
    # what was learnt of one person says nothing of another whose account takes the label over
    kept = before.extra if wanted.email in (None, _email(before)) else {}
    return replace(
        before,
        label=wanted.label or before.label,
        tier=before.tier if wanted.tier is None else wanted.tier,
        base_url=wanted.base_url or before.base_url,
        auth=wanted.auth or before.auth,
        models=wanted.models or before.models,
        invalid=None,
        extra={**kept, **learnt},
    )


def _email(account: Account) -> str:
    """Whose account it is: as was said at the sign-in, else by its label."""
    return account.extra.get("email", account.label)


def store(vault: Vault, wanted: Wanted, credential: Credential, extra: Sequence[Account]) -> tuple[Account, bool]:
    """Store the account, decided anew on what is stored at that moment: it, and whether it was there already.

    Raises VaultError.
    """
    stored: list[tuple[Account, bool]] = []

    def placed(known: tuple[Entry, ...]) -> tuple[Entry, ...]:
        same = same_account(wanted, credential, known)
        entry = Entry(described(wanted, same, known, extra), credential)
        stored.append((entry.account, same is not None))
        if same is None:
            return (*known, entry)
        return tuple(entry if one is same else one for one in known)

    vault.edit(placed)
    return stored[-1]


def have_checked(
    ports: Ports, terminal: StandardTerminal, provider: ProviderInfo, account: Account, credential: Credential
) -> Verdict:
    """Ask the provider whether the credential works. Raises Trouble where it does not say yes."""
    what = f"the {kind(credential)}"
    terminal.show(f"Asking {provider.title} whether {what} works …")
    # not as the account that it may replace: of that one the store holds another credential, and keeps it so far
    verdict = verify.ask(ports, replace(account, id=new_id()), credential)
    detail = f": {verdict.detail}" if verdict.detail else ""
    if verdict.works is Works.REFUSED:
        raise Trouble(f"{provider.title} refused {what}{detail}\nNothing was stored", Exit.SIGN_IN)
    if verdict.works is Works.UNREACHABLE:
        raise Trouble(
            f"{provider.title} did not say that {what} works{detail}\n"
            "Nothing was stored; --no-verify stores it unasked",
            Exit.UNREACHABLE,
        )
    return verdict


def _refuse_config_label(wanted: Wanted, extra: Sequence[Account]) -> None:
    if any((account.provider, account.label) == (wanted.provider, wanted.label) for account in extra):
        raise Trouble(f"{wanted.provider}/{wanted.label} is set in the config file; choose another label", Exit.USAGE)
