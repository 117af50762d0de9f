"""Outages in the log: one line at the beginning, one at the end."""

import logging

import pytest
from confluent_kafka import KafkaError

from runtime import kafka as client
from runtime import logs
from runtime.kafka import log_client_error
from runtime.outages import QUIET_SECONDS, SILENT_SECONDS, Outage


class Clock:
    """A clock that moves only when the test moves it."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def kafka(monkeypatch: pytest.MonkeyPatch) -> Outage:
    """A separate `Outage`: clients of brokers that other tests have killed still fail in this process."""
    own = Outage("Kafka")
    monkeypatch.setattr(own, "_quiet_until", 0.0)
    for module in (logs, client):
        monkeypatch.setattr(module, "KAFKA", own)
    return own


@pytest.fixture
def outage(clock: Clock, caplog: pytest.LogCaptureFixture) -> Outage:
    caplog.set_level(logging.INFO, "runtime.outages")
    return Outage("Postgres", clock)


def test_an_outage_of_any_length_is_two_lines(outage: Outage, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    """The lines have the cause's first line, and the duration."""
    for _ in range(290):
        outage.failed(ConnectionError("refused\nis the server running?"))
        clock.now += 0.1
    outage.answered()
    outage.answered()
    assert caplog.messages == [
        "Postgres is unavailable: ConnectionError: refused",
        "Postgres is available again after 29.0 s",
    ]
    assert vars(caplog.records[1])["failures"] == 290


def test_without_an_outage_there_is_no_line(outage: Outage, caplog: pytest.LogCaptureFixture) -> None:
    outage.answered()
    assert caplog.messages == []


def test_the_next_outage_has_lines_of_its_own(outage: Outage, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(2):
        outage.failed("refused")
        outage.answered()
        clock.now += QUIET_SECONDS
    assert len(caplog.messages) == 4


def test_a_service_that_fails_for_one_caller_alone_does_not_flood(
    outage: Outage, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """It fails twenty times a second for a minute."""
    for _ in range(1_200):
        outage.failed("deadline")
        outage.answered()
        clock.now += 0.05
    assert 4 <= len(caplog.messages) <= 2 * 60 / QUIET_SECONDS + 2


def test_an_outage_soon_after_another_is_logged_once_it_lasts(
    outage: Outage, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """Its duration counts from its first failure."""
    outage.failed("refused")
    outage.answered()
    clock.now += 1
    began = clock.now
    while clock.now < began + 30:
        outage.failed("refused")
        clock.now += 1
    outage.answered()
    assert caplog.messages[2:] == ["Postgres is unavailable: refused", "Postgres is available again after 30.0 s"]


def test_while_an_outage_lasts_it_has_a_reason(outage: Outage) -> None:
    assert outage.reason is None
    outage.failed(ConnectionError("refused\nis the server running?"))
    outage.failed("refused again")
    assert outage.reason == "refused again"
    outage.answered()
    assert outage.reason is None


def test_a_client_that_says_only_when_it_fails_is_answered_when_it_is_silent(
    outage: Outage, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(20):
        outage.failed("refused")
        outage.look_for_silence()
        clock.now += 1
    assert len(caplog.messages) == 1
    clock.now += SILENT_SECONDS
    outage.look_for_silence()
    assert caplog.messages[1:] == ["Postgres is available again after 25.0 s"]


def test_what_librdkafka_says_of_one_broker_is_not_written_and_what_else_it_says_is(kafka: Outage) -> None:
    """The caller that waits for the brokers reports the outage, once."""

    def record(facility: str, text: str) -> logging.LogRecord:
        arguments = (facility, "rdkafka#producer-1", text)
        return logging.LogRecord("librdkafka", logging.ERROR, "", 0, "%s [%s] %s", arguments, None)

    for facility, text in (
        ("FAIL", "127.0.0.1:1/bootstrap: Connect to ipv4#127.0.0.1:1 failed: Connection refused"),
        ("FAIL", "127.0.0.1:1/1: 2 request(s) timed out: disconnect (average rtt 9.1ms)"),
        ("REQTMOUT", "127.0.0.1:1/1: Timed out 0 in-flight, 0 retry-queued, 2 out-queue, 1 partially-sent requests"),
        ("ERROR", "1/1 brokers are down"),
        (
            "GETPID",
            "Failed to acquire idempotence PID from broker 127.0.0.1:1/1: Coordinator load: retrying",
        ),
    ):
        assert not logs._tell_as_outage(record(facility, text))
    assert kafka.reason is None
    assert logs._tell_as_outage(record("CONFWARN", "Configuration property dr_cb is deprecated"))


def test_while_no_broker_is_left_each_that_fails_goes_on_with_the_outage(
    caplog: pytest.LogCaptureFixture, kafka: Outage
) -> None:
    """A failure of one broker while others are available begins no outage."""
    one, all_of_them = KafkaError(KafkaError._TRANSPORT), KafkaError(KafkaError._ALL_BROKERS_DOWN)
    log_client_error(one)
    assert kafka.reason is None
    log_client_error(all_of_them)
    log_client_error(one)
    assert kafka._failures == 2
    assert len([each for each in caplog.records if each.levelno >= logging.WARNING]) == 1


def test_what_aiokafka_says_of_unreachable_brokers_is_an_outage_and_what_else_it_says_is_written(
    kafka: Outage,
) -> None:

    def record(message: str, *arguments: object) -> logging.LogRecord:
        return logging.LogRecord("aiokafka", logging.ERROR, "", 0, message, arguments, None)

    assert not logs._tell_as_outage(record("Unable connect to node with id %s: %s", 1, "refused"))
    assert kafka.reason == "Unable connect to node with id 1: refused"
    assert logs._tell_as_outage(record("Heartbeat failed for group %s because it is rebalancing", "g"))
