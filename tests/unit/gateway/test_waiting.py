"""Waiting for a number: what the client asks for, and who is woken."""

import asyncio

import pytest

from gateway.intake import WAIT_SECONDS_MAX, wait_seconds
from gateway.waiting import Event, Waiters


@pytest.mark.parametrize(
    ("prefer", "seconds"),
    [
        (None, 0),
        ("", 0),
        ("wait=10", 10),
        ('wait="10"', 10),
        ("Wait = 5", 5),
        ("respond-async, wait=7", 7),
        ("wait=7; foo=bar, respond-async", 7),
        ("wait=31", WAIT_SECONDS_MAX),
        ("wait=999999", WAIT_SECONDS_MAX),
        ("wait=0", 0),
        ("wait=-1", 0),
        ("wait=1.5", 0),
        ("wait=abc", 0),
        ("wait=99999999999999999999", 0),
        ("handling=strict", 0),
        ("await=3", 0),
    ],
)
def test_a_preference_is_met_as_far_as_it_can_be(prefer: str | None, seconds: int) -> None:
    """RFC 7240: what is not understood is ignored, what is too much is cut."""
    assert wait_seconds(prefer) == seconds


async def test_only_those_who_wait_for_the_key_are_woken() -> None:
    """Two of one order both are."""
    waiters = Waiters()
    first, second, other = waiters.add(b"A"), waiters.add(b"A"), waiters.add(b"B")
    waiters.deliver([Event(b"A", b"event"), Event(b"C", b"nobody's")])
    assert await first.next(0.1) == b"event"
    assert await second.next(0.1) == b"event"
    assert await other.next(0.01) is None


async def test_who_has_gone_leaves_nothing_behind() -> None:
    """Else every order ever waited for would stay in memory."""
    waiters = Waiters()
    first, second = waiters.add(b"A"), waiters.add(b"A")
    waiters.remove(b"A", first)
    assert len(waiters) == 1
    waiters.remove(b"A", second)
    waiters.remove(b"A", second)
    assert waiters.by_key == {}


async def test_an_event_that_came_before_the_wait_is_not_lost() -> None:
    """The event may come before the acknowledgement."""
    waiters = Waiters()
    waiter = waiters.add(b"A")
    waiters.deliver([Event(b"A", b"1"), Event(b"A", b"2")])
    await asyncio.sleep(0)
    assert [await waiter.next(0.01) for _ in range(3)] == [b"1", b"2", None]
