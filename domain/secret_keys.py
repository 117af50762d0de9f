"""Keys as operators set them: long random texts, comma separated, the one in use first and former ones after it."""

import hashlib

#: Shorter keys could be guessed.
KEY_CHARS_MIN = 32


def derive_keys(setting: str, purpose: bytes) -> list[bytes]:
    """32 bytes for each key in the setting; for another purpose they are others.

    Raises `ValueError` for a key that is too short.
    """
    keys = [each.strip() for each in setting.split(",") if each.strip()]
    if any(len(each) < KEY_CHARS_MIN for each in keys):
        raise ValueError(f"each key must have {KEY_CHARS_MIN} characters or more; separate keys by commas")
    return [hashlib.sha256(purpose + each.encode()).digest() for each in keys]
