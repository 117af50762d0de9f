"""Secrets as they are stored: encrypted under keys that Postgres doesn't have, so that a backup gives none away.

Secrets from before there were keys are stored as they are. They have `SECRET_BYTES`, and no encrypted one is as short.
"""

import base64
from collections.abc import Sequence

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from domain.secret_keys import derive_keys
from runtime.settings import Settings

SECRET_BYTES = 32
_PURPOSE = b"gapless secrets in Postgres 1"


class UnreadableSecretError(Exception):
    """A stored secret is encrypted under none of the keys in `GAPLESS_SECRET_KEYS`."""


class Sealing:
    """Encrypts with the first key, decrypts with all of them; without keys, secrets are stored as they are."""

    def __init__(self, keys: Sequence[bytes] = ()) -> None:
        """Each key has 32 bytes."""
        fernets = [Fernet(base64.urlsafe_b64encode(key)) for key in keys]
        self._first = fernets[0] if fernets else None
        self._all = MultiFernet(fernets) if fernets else None

    def seal(self, secret: bytes) -> bytes:
        """The secret as it is to be stored. Raises `ValueError` unless it has `SECRET_BYTES`."""
        if len(secret) != SECRET_BYTES:
            raise ValueError(f"a secret of {len(secret)} bytes, not {SECRET_BYTES}")
        return secret if self._first is None else self._first.encrypt(secret)

    def unseal(self, stored: bytes) -> bytes:
        """The secret that is stored. Raises `UnreadableSecretError`."""
        if len(stored) == SECRET_BYTES:
            return stored
        try:
            if self._all is not None:
                return self._all.decrypt(stored)
        except InvalidToken:
            pass
        raise UnreadableSecretError("no key in GAPLESS_SECRET_KEYS decrypts it")

    def reseal(self, stored: bytes) -> bytes:
        """As it is to be stored from now on: the same bytes where the first key has encrypted them already.

        Raises `UnreadableSecretError`.
        """
        secret = self.unseal(stored)
        if self._first is None or len(stored) == SECRET_BYTES:
            return self.seal(secret)
        try:
            self._first.decrypt(stored)
        except InvalidToken:
            return self.seal(secret)
        return stored


def sealing_for(settings: Settings) -> Sealing:
    """As the settings say."""
    keys = settings.secret_keys
    return Sealing() if keys is None else Sealing(derive_keys(keys.get_secret_value(), _PURPOSE))
