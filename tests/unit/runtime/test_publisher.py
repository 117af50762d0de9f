"""The publisher's own deadline, with a library that never reports."""

from time import monotonic
from typing import Any

import pytest

from runtime import publisher as module
from runtime.publisher import NotAcknowledgedError, Publisher


class SilentProducer:
    """Accepts all messages and reports nothing."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config

    def produce(self, *_: Any, **__: Any) -> None:
        """Accept a message."""

    def poll(self, _: float) -> int:
        """Report nothing."""
        return 0

    def purge(self) -> None:
        """Do nothing."""


async def test_a_message_without_a_report_fails_at_its_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """No caller waits for ever, whatever the library does."""
    monkeypatch.setattr(module, "Producer", SilentProducer)
    publisher = Publisher("unused", timeout_seconds=2.1)
    began = monotonic()
    with pytest.raises(NotAcknowledgedError, match=r"no answer within 2\.1 s"):
        await publisher.publish("t", b"k", b"v")
    assert 2 < monotonic() - began < 30
    await publisher.drain()
    assert publisher.in_flight == 0
    await publisher.close()


async def test_a_deadline_that_the_library_could_not_keep_is_refused() -> None:
    """The library checks for late messages once a second."""
    with pytest.raises(ValueError, match="above 2"):
        Publisher("unused", timeout_seconds=2)


async def test_kept_means_by_all_replicas_in_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    """The promise of 202 depends on these options, so they are set even if they are defaults."""
    monkeypatch.setattr(module, "Producer", SilentProducer)
    publisher = Publisher("unused")
    config = publisher._producer.config  # type: ignore[attr-defined]
    assert config["acks"] == "all"
    assert config["enable.idempotence"] is True
    assert config["partitioner"] == "murmur2_random"
    await publisher.close()
