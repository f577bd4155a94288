"""Receipts: the signed ids of predictions, by which a true label finds its way back."""

from __future__ import annotations

import binascii
import contextlib
import itertools
import os
import re
import secrets
import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from hmac import compare_digest
from pathlib import Path
from typing import Literal

MAX_AGE_S = 30 * 24 * 3600
KEY_FILE = "receipt.key"
MIN_SECRET_CHARACTERS = 16

# What is signed, 23 bytes: format and version (1 + 6), class index, confidence in 1/65535, Unix
# seconds, nonce. Golden tests hold this layout, since replicas of different releases must read
# each other's receipts.
_PAYLOAD = struct.Struct(">7sHHIQ")
_FORMAT = b"\x01"
_SIGNATURE_BYTES = 16
_CONFIDENCE_STEPS = 65535
# 23 + 16 bytes are 52 characters of base64 to the last bit: no padding, and one spelling only.
_TOKEN = re.compile(r"[A-Za-z0-9_-]{52}", re.ASCII)
_TO_URL = bytes.maketrans(b"+/", b"-_")
_FROM_URL = bytes.maketrans(b"-_", b"+/")


class Forged(ValueError):
    """Not a receipt that this service signed; the message never says what is wrong with it."""


class Expired(ValueError):
    """A genuine receipt, too old to be labelled."""


class BadSecret(ValueError):
    """A configured signing secret that cannot be used; the message never contains it."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a receipt says about the prediction that it was given for."""

    id: str  # the receipt itself
    version: str  # 12 hex digits; a version belongs to one model
    index: int  # predicted class
    confidence: float  # 0..1, to 1/65535
    issued: int  # Unix seconds


@dataclass(frozen=True, kw_only=True)
class Keys:
    """Signing keys: `current` signs new receipts; those signed by `old` are still accepted."""

    current: bytes
    old: tuple[bytes, ...] = ()
    origin: Literal["secret", "file", "ephemeral"] = "secret"
    problem: str = ""  # why the keys are ephemeral, for the log and the readiness detail


class Signer:
    """Signs and verifies receipts. `sign` is on the path of every prediction (about 1 us)."""

    def __init__(self, keys: Keys, max_age_s: int = MAX_AGE_S) -> None:
        self.keys = keys
        self.max_age_s = max_age_s
        # A keyed hash object to copy from: 0.1 us less than keying one anew for each receipt.
        self._keyed = _keyed(keys.current)
        self._accepted = (self._keyed, *(_keyed(key) for key in keys.old))
        self._heads: dict[str, bytes] = {}
        # Nonces need not be secret, only differ, between processes too: counted from a random start
        # of 7 bytes, so that no process lives to see them overflow. 1 us less than drawing each.
        self._nonces = itertools.count(int.from_bytes(os.urandom(7)))

    def sign(self, version: str, index: int, confidence: float, now: float) -> str:
        """The receipt, 52 URL-safe characters, of one prediction made at `now` (Unix seconds)."""
        head = self._heads.get(version) or self._head(version)
        steps = int(confidence * _CONFIDENCE_STEPS + 0.5)
        payload = _PAYLOAD.pack(
            head, index, min(steps, _CONFIDENCE_STEPS), int(now), next(self._nonces)
        )
        signature = self._keyed.copy()
        signature.update(payload)
        token = binascii.b2a_base64(payload + signature.digest(), newline=False)
        return token.translate(_TO_URL).decode("ascii")

    def verify(self, token: str, now: float) -> Receipt:
        """What `token` says.

        Raises Forged, or Expired when it was signed more than `max_age_s` before `now`.
        """
        if not _TOKEN.fullmatch(token):
            raise Forged("not a receipt of this service")
        raw = binascii.a2b_base64(token.encode("ascii").translate(_FROM_URL))
        payload, signature = raw[: _PAYLOAD.size], raw[_PAYLOAD.size :]
        genuine = False
        for keyed in self._accepted:  # every key is tried, whichever fits: one duration for all
            expected = keyed.copy()
            expected.update(payload)
            genuine |= compare_digest(expected.digest(), signature)
        if not genuine or payload[:1] != _FORMAT:
            raise Forged("not a receipt of this service")
        head, index, steps, issued, _nonce = _PAYLOAD.unpack(payload)
        if now - issued > self.max_age_s:
            days = self.max_age_s / 86400
            raise Expired(f"the receipt is older than {days:g} days")
        return Receipt(token, head[1:].hex(), index, steps / _CONFIDENCE_STEPS, issued)

    def _head(self, version: str) -> bytes:
        head = _FORMAT + bytes.fromhex(version)
        if len(head) != 7:
            raise ValueError(f"a version is 12 hex digits, not {version!r}")
        self._heads[version] = head  # few: one for each version this process has served
        return head


def load_keys(secret: str, state: Path | None, old: Sequence[str] = ()) -> Keys:
    """The signing keys: of `secret`, else of the state folder, else for this process only.

    `old` are former secrets, still accepted. The key file holds one secret a line: the first
    signs, the others are still accepted. It is generated once, readable by its owner only;
    processes that start together agree on it.
    Raises BadSecret when a configured secret is too short.
    """
    if secret:
        return _keys([secret, *old], "secret", "VITRINE_SECRET")
    if state is None:
        return _ephemeral("there is no state folder", old)
    path = state / KEY_FILE
    try:
        if not path.exists():
            _generate(path)
        lines = path.read_text("ascii").split()
    except UnicodeDecodeError:
        lines = []
    except OSError as error:
        return _ephemeral(error.strerror or type(error).__name__, old)
    if not lines or min(map(len, lines)) < MIN_SECRET_CHARACTERS:
        # Not a reason to refuse predictions; said in the log and in the readiness detail.
        return _ephemeral(f"{KEY_FILE} is damaged; delete it to have a new key generated", old)
    return _keys([*lines, *old], "file", KEY_FILE)


def _keys(texts: Sequence[str], origin: Literal["secret", "file", "ephemeral"], name: str) -> Keys:
    if min(map(len, texts)) < MIN_SECRET_CHARACTERS:
        raise BadSecret(f"{name}: a secret is shorter than {MIN_SECRET_CHARACTERS} characters")
    # A secret of any length becomes a key of one length, which signs receipts and nothing else.
    current, *old = (
        blake2b(text.encode(), digest_size=32, person=b"vitrine-receipt").digest() for text in texts
    )
    return Keys(current=current, old=tuple(old), origin=origin)


def _ephemeral(problem: str, old: Sequence[str]) -> Keys:
    keys = _keys([secrets.token_urlsafe(32), *old], "ephemeral", "VITRINE_OLD_SECRETS")
    return replace(keys, problem=problem)


def _generate(path: Path) -> None:
    """A new key file at `path`, unless another process was first; it is never seen half written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(secrets.token_urlsafe(32) + "\n")
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)  # unlike a rename, fails where a file is there already
    finally:
        draft.unlink()


def _keyed(key: bytes) -> blake2b:
    return blake2b(key=key, digest_size=_SIGNATURE_BYTES)
