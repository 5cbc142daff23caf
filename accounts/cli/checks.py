"""What a person may call an account, and where it may be served."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from accounts.exits import Exit, Trouble
from accounts.hosts import hands_out_secrets
from accounts.labels import LIMIT as LABEL_LIMIT
from accounts.labels import is_label

MODEL_LIMIT = 256


def checked_label(text: str) -> str:
    """A label without the space around it. Raises Trouble for what could not be typed or told apart."""
    label = text.strip()
    if not is_label(label):
        raise Trouble(f"a label has 1 to {LABEL_LIMIT} printable characters and no '/'", Exit.USAGE)
    return label


def checked_model(text: str) -> str:
    """A model's id without the space around it. Raises Trouble for what is none."""
    model = text.strip()
    if not model or len(model) > MODEL_LIMIT or not model.isprintable():
        raise Trouble(f"a model's id has 1 to {MODEL_LIMIT} printable characters", Exit.USAGE)
    return model


def checked_base_url(text: str) -> str:
    """The address of an endpoint, without a slash at its end.

    Raises Trouble for anything but https, or plain http to this very machine; a key would
    travel readable otherwise. The message never repeats the address: it may hold a password.
    """
    try:
        parts = urlsplit(text.strip())
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise Trouble("--base-url is not an address such as https://host/path", Exit.USAGE) from None
    if parts.scheme not in ("http", "https") or not host or not text.strip().isascii() or _has_space(text.strip()):
        raise Trouble("--base-url is not an address such as https://host/path", Exit.USAGE)
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise Trouble("--base-url takes no user, password, query or fragment", Exit.USAGE)
    if parts.scheme == "http" and not is_loopback(host):
        raise Trouble("--base-url must be https: plain http is for addresses of this machine only", Exit.USAGE)
    if hands_out_secrets(host):
        raise Trouble("--base-url is where a cloud hands out a machine's own credentials: no account there", Exit.USAGE)
    return text.strip().rstrip("/")


def is_loopback(host: str) -> bool:
    """Whether the host is this machine: localhost, 127.0.0.0/8 or ::1."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _has_space(text: str) -> bool:
    return any(character.isspace() or not character.isprintable() for character in text)
