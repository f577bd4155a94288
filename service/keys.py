"""Keys: who may ask for predictions, and who may change what is served. Bearer tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from hashlib import sha256
from hmac import compare_digest

from service.http import Problem

Guard = Callable[[dict[bytes, bytes]], None]  # of a request's headers; raises Problem 401 or 403


class KeyRing:
    """The keys of the settings. A key is compared by its digest, in constant time, never logged."""

    def __init__(self, api_keys: Iterable[str], admin_keys: Iterable[str]) -> None:
        self._api = [_digest(key.encode()) for key in api_keys]
        self._admin = [_digest(key.encode()) for key in admin_keys]

    @property
    def predictions(self) -> Guard | None:
        """Lets API keys and admin keys in; None, costing nothing, where no API key is set."""
        return self._check_api if self._api else None

    def admin(self, headers: dict[bytes, bytes]) -> None:
        """Lets admin keys in. Raises Problem 401, or 403 for API keys and where there are none."""
        if not self._admin:
            raise Problem(
                403, "changing what is served is off; set VITRINE_ADMIN_KEYS to turn it on"
            )
        digest = _presented(headers)
        admin, api = _among(digest, self._admin), _among(digest, self._api)
        if not admin:
            if api:
                raise Problem(403, "this key may ask for predictions; an admin key is needed")
            raise _unknown()

    def _check_api(self, headers: dict[bytes, bytes]) -> None:
        digest = _presented(headers)
        if not _among(digest, self._api) | _among(digest, self._admin):
            raise _unknown()


def _presented(headers: dict[bytes, bytes]) -> bytes:
    """The digest of the key in `Authorization: Bearer KEY`. Raises Problem 401 without one."""
    scheme, _, key = headers.get(b"authorization", b"").partition(b" ")
    key = key.strip()
    if scheme.lower() != b"bearer" or not key:
        raise Problem(
            401,
            "a key is needed: Authorization: Bearer KEY",
            [(b"www-authenticate", b'Bearer realm="vitrine"')],
            reason="key",
        )
    return _digest(key)


def _digest(key: bytes) -> bytes:
    return sha256(key).digest()


def _among(digest: bytes, known: list[bytes]) -> bool:
    found = False
    for each in known:  # all of them, whichever fits: one duration for every key
        found |= compare_digest(digest, each)
    return found


def _unknown() -> Problem:
    return Problem(
        401,
        "the key is not known here",
        [(b"www-authenticate", b'Bearer realm="vitrine", error="invalid_token"')],
        reason="key",
    )
