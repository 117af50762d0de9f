"""Secrets as they are stored."""

import pytest

from domain.document_link import keys_of
from domain.secret_keys import derive_keys
from sinks.postgres.sealing import SECRET_BYTES, Sealing, UnreadableSecretError

SECRET = b"s" * SECRET_BYTES


def test_a_sealed_secret_is_read_by_its_key_alone() -> None:
    sealing = Sealing([b"a" * 32])
    stored = sealing.seal(SECRET)
    assert SECRET not in stored
    assert len(stored) != SECRET_BYTES
    assert sealing.unseal(stored) == Sealing([b"b" * 32, b"a" * 32]).unseal(stored) == SECRET
    for other in (Sealing([b"b" * 32]), Sealing()):
        with pytest.raises(UnreadableSecretError):
            other.unseal(stored)
    with pytest.raises(UnreadableSecretError):
        sealing.unseal(stored[:-1] + bytes([stored[-1] ^ 1]))


def test_secrets_from_before_there_was_a_key_are_read_as_they_are() -> None:
    assert Sealing().seal(SECRET) == SECRET
    assert Sealing([b"a" * 32]).unseal(SECRET) == SECRET


def test_resealing_changes_only_what_another_key_or_none_has_sealed() -> None:
    first, second = Sealing([b"a" * 32]), Sealing([b"b" * 32, b"a" * 32])
    stored = first.reseal(SECRET)
    assert stored != SECRET
    assert first.reseal(stored) == stored
    moved = second.reseal(stored)
    assert moved != stored
    assert second.reseal(moved) == moved
    assert Sealing([b"b" * 32]).unseal(moved) == SECRET


def test_a_secret_of_another_length_is_refused() -> None:
    """Its stored form could be taken for one that is not encrypted."""
    with pytest.raises(ValueError, match="31 bytes"):
        Sealing().seal(SECRET[1:])


def test_a_key_serves_each_purpose_in_another_form() -> None:
    setting = f"{'a' * 32}, {'b' * 32},"
    keys = derive_keys(setting, b"one")
    assert len(set(keys) | set(derive_keys(setting, b"two")) | set(keys_of(setting))) == 6
    with pytest.raises(ValueError, match="32 characters"):
        derive_keys("short", b"one")
