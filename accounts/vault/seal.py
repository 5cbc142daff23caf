"""Bytes to sealed bytes and back: AES-256-GCM under a header that anyone may read.

The first line is JSON: what the file is, its version and generation, which key opens it and
where that key comes from, and for a passphrase how it becomes a key. Its last field is a
checksum of the rest of the line. Then a nonce of 12 bytes, then the ciphertext, which has the
whole line as associated data, so a changed, cut or swapped header fails closed.

AES-GCM cannot tell a wrong key from damage; the header can: `id` and `check` are both derived
from the key (HKDF-SHA256, fixed labels), so a key that matches neither is another key.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from accounts.model import Secret
from accounts.vault.errors import ForeignStore, NewerVersion, VaultDamaged, VaultEmpty, WrongKey

VERSION = 1
KEY_BYTES = 32
NONCE_BYTES = 12
SALT_BYTES = 16
HEADER_LIMIT = 4096
"""A header is some 300 bytes; a first line longer than this is not one."""

_CHECKSUM = re.compile(rb'^(\{.*),"sum":"([0-9a-f]{16})"\}$', re.DOTALL)


class Format(StrEnum):
    """What a sealed file is for. One is never taken for the other."""

    STORE = "multi-claude-proxy/accounts"
    EXPORT = "multi-claude-proxy/export"


class KeySource(StrEnum):
    """Where the key of a sealed file comes from."""

    ENV = "env"
    PASSPHRASE = "passphrase"  # noqa: S105 - the name of a source
    FILE = "file"
    KEYCHAIN = "keychain"


@dataclass(frozen=True, slots=True)
class Cost:
    """How dear guessing a passphrase is (Argon2id, RFC 9106). memory is in KiB."""

    memory: int = 65536
    iterations: int = 3
    lanes: int = 4


STANDARD = Cost()
"""64 MiB, three passes, four lanes: RFC 9106's second recommendation; about 150 ms."""

DEAREST = Cost(memory=2**20, iterations=64, lanes=64)
"""What we are ready to spend at most because a header, which anyone can write, says so."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """How a passphrase becomes a key: the salt, and the cost."""

    salt: bytes
    cost: Cost


@dataclass(frozen=True, slots=True)
class Key:
    """The 32 bytes that open a sealed file. Never printed."""

    raw: bytes

    def __repr__(self) -> str:
        return "Key(...)"

    @property
    def id(self) -> str:
        """A public name for the key: tells two keys apart and gives nothing away."""
        return _derived(self.raw, b"multi-claude-proxy key id", 4)

    @property
    def check(self) -> str:
        """The key check value of the header."""
        return _derived(self.raw, b"multi-claude-proxy key check", 8)


@dataclass(frozen=True, slots=True)
class Header:
    """The readable first line of a sealed file.

    generation  counts the times the file was written, from 1
    stretch     for a key made from a passphrase; None for every other
    """

    format: Format
    generation: int
    key_id: str
    source: KeySource
    check: str
    stretch: Stretch | None = None

    def fits(self, key: Key) -> bool:
        """Whether this key opens the file."""
        return self.key_id == key.id and self.check == key.check


def new_key() -> Key:
    """A fresh random key."""
    return Key(os.urandom(KEY_BYTES))


def new_stretch(cost: Cost = STANDARD) -> Stretch:
    """A fresh salt at the given cost."""
    return Stretch(os.urandom(SALT_BYTES), cost)


def stretched(passphrase: Secret, stretch: Stretch) -> Key:
    """The key that a passphrase stands for. Takes some 150 ms and 64 MiB at the standard cost."""
    cost = stretch.cost
    argon = Argon2id(
        salt=stretch.salt, length=KEY_BYTES, iterations=cost.iterations, lanes=cost.lanes, memory_cost=cost.memory
    )
    return Key(argon.derive(passphrase.reveal().encode()))


def header_for(
    key: Key, source: KeySource, generation: int, stretch: Stretch | None = None, format: Format = Format.STORE
) -> Header:
    """The header of a file sealed with this key."""
    return Header(format, generation, key.id, source, key.check, stretch)


def seal(plain: bytes, key: Key, header: Header) -> bytes:
    """Plain bytes to a whole sealed file. The header must be one that fits the key."""
    line = _line(header)
    nonce = os.urandom(NONCE_BYTES)
    return line + nonce + AESGCM(key.raw).encrypt(nonce, plain, line)


def unseal(sealed: bytes, key: Key, format: Format = Format.STORE) -> bytes:
    """A whole sealed file to its plain bytes.

    Raises VaultEmpty, VaultDamaged, NewerVersion, ForeignStore as `read_header` does, and
    WrongKey where the file is sealed with another key.
    """
    header = read_header(sealed, format)
    if not header.fits(key):
        raise WrongKey(f"it is sealed with key {header.key_id}, and the key at hand is {key.id}")
    line, _, rest = sealed.partition(b"\n")
    try:
        return AESGCM(key.raw).decrypt(rest[:NONCE_BYTES], rest[NONCE_BYTES:], line + b"\n")
    except (InvalidTag, ValueError):
        # ValueError: a nonce cut short
        raise VaultDamaged("its content does not match its seal") from None


def read_header(sealed: bytes, format: Format = Format.STORE) -> Header:
    """The header of a sealed file, needing no key.

    Raises VaultEmpty for no bytes, ForeignStore for a plain JSON file or another kind of
    sealed file, NewerVersion for a version above ours, VaultDamaged for everything else.
    """
    if not sealed:
        raise VaultEmpty("it is empty")
    line, newline, _ = sealed.partition(b"\n")
    intact = _CHECKSUM.match(line) if newline and len(line) <= HEADER_LIMIT else None
    if intact is None or intact[2].decode() != _sum(intact[1]):
        if plain := _plain_kind(sealed):
            raise ForeignStore(plain)
        raise VaultDamaged("its first line is not a whole header")
    try:
        fields: dict[str, Any] = json.loads(line)
    except (ValueError, RecursionError):
        raise VaultDamaged("its first line is not a whole header") from None
    return _header(fields, format)


def _header(fields: Mapping[str, Any], format: Format) -> Header:
    if fields.get("format") != format:
        raise ForeignStore(_other_format(fields.get("format")))
    version = fields.get("version")
    if isinstance(version, int) and version > VERSION:
        raise NewerVersion(f"it is of version {version}, and this program reads up to {VERSION}: upgrade it")
    try:
        key = fields["key"]
        source = KeySource(key["source"])
        return Header(
            format=format,
            generation=int(fields["generation"]),
            key_id=str(key["id"]),
            source=source,
            check=str(key["check"]),
            stretch=_stretch(key["kdf"]) if source is KeySource.PASSPHRASE else None,
        )
    except (KeyError, TypeError, ValueError):
        raise VaultDamaged("its header lacks what opens it") from None


def _stretch(kdf: Mapping[str, Any]) -> Stretch:
    cost = Cost(int(kdf["memory"]), int(kdf["iterations"]), int(kdf["lanes"]))
    if kdf["name"] != "argon2id" or not _affordable(cost):
        raise ValueError("a cost nobody would choose")
    return Stretch(base64.b64decode(kdf["salt"], validate=True), cost)


def _affordable(cost: Cost) -> bool:
    return (
        8 * cost.lanes <= cost.memory <= DEAREST.memory
        and 1 <= cost.iterations <= DEAREST.iterations
        and 1 <= cost.lanes <= DEAREST.lanes
    )


def _line(header: Header) -> bytes:
    key: dict[str, Any] = {"id": header.key_id, "source": header.source.value, "check": header.check}
    if header.stretch is not None:
        cost = header.stretch.cost
        key["kdf"] = {
            "name": "argon2id",
            "salt": base64.b64encode(header.stretch.salt).decode(),
            "memory": cost.memory,
            "iterations": cost.iterations,
            "lanes": cost.lanes,
        }
    fields = {"format": header.format.value, "version": VERSION, "generation": header.generation, "key": key}
    body = json.dumps(fields, separators=(",", ":")).encode()[:-1]
    return body + b',"sum":"' + _sum(body).encode() + b'"}\n'


def _sum(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()[:16]


def _derived(raw: bytes, label: bytes, length: int) -> str:
    return HKDF(algorithm=SHA256(), length=length, salt=None, info=label).derive(raw).hex()


def _plain_kind(content: bytes) -> str | None:
    """What a file is that is JSON from end to end; None where it is not."""
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return None
    if isinstance(value, dict) and value.get("format") in tuple(Format):
        return None  # our own header, cut off right behind
    if isinstance(value, dict) and isinstance(value.get("accounts"), list):
        return "it is the plain accounts.json of another tool"
    return "it is a plain JSON file, not a sealed store"


def _other_format(name: object) -> str:
    if name == Format.EXPORT:
        return "it is an export, not a store"
    if name == Format.STORE:
        return "it is a sealed store, not an export"
    return "it is a sealed file of another kind"


def decoded_key(text: str) -> Key | None:
    """A key from its base64 (standard or URL-safe, padded or not); None where it is not 32 bytes."""
    compact = text.strip().replace("-", "+").replace("_", "/").rstrip("=")
    try:
        raw = base64.b64decode(compact + "=" * (-len(compact) % 4), validate=True)
    except (binascii.Error, ValueError):
        return None
    return Key(raw) if len(raw) == KEY_BYTES else None


def encoded_key(key: Key) -> str:
    """A key as base64 text, for the places that keep it."""
    return base64.b64encode(key.raw).decode()
