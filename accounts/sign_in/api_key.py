"""Sign in with a key that a person copies from the provider's page."""

from __future__ import annotations

from accounts.model import ApiKey, ApiKeySignIn, Secret
from accounts.sign_in.terminal import Terminal

KEY_LIMIT = 8192
"""Characters. Keys are some hundred long; a header of ours may hold this much."""


class BadKey(Exception):
    """What was given cannot be a key. Never repeats it."""


def sign_in(recipe: ApiKeySignIn, terminal: Terminal) -> ApiKey:
    """Ask for the key, unseen. Raises BadKey for what cannot be one."""
    if recipe.key_page is not None:
        terminal.show(f"Your key is on {recipe.key_page}")
    return api_key(terminal.ask_hidden("API key (not shown): "))


def api_key(text: Secret) -> ApiKey:
    """The key in what a person pasted, with the space around it dropped.

    A key is printable ASCII without spaces: anything else is half a copy, or would break the
    header that carries it (RFC 9110, 5.5). Raises BadKey.
    """
    key = text.reveal().strip()
    if not key:
        raise BadKey("the key is empty")
    if any(character.isspace() for character in key):
        raise BadKey("the key has a space or a line break inside: paste the key alone")
    if not (key.isascii() and key.isprintable()):
        raise BadKey("the key has characters that no key has: paste it again")
    if len(key) > KEY_LIMIT:
        raise BadKey(f"the key is longer than {KEY_LIMIT} characters: paste the key alone")
    return ApiKey(Secret(key))
