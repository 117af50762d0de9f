"""Waiting for a number: what the client asks for, and who is woken."""

import asyncio

import pytest
from multidict import CIMultiDict

from gateway.http.parameters import WAIT_SECONDS_MAX, wait_seconds
from gateway.http.waiting import TailedRecord, Waiters


@pytest.mark.parametrize(
    ("prefer", "seconds"),
    [
        ([], 0),
        ("", 0),
        ("wait=10", 10),
        ('wait="10"', 0),
        ('respond-async, wait="5"', 0),
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
        ("wait", 0),
        ("wait=", 0),
        ("wait=00000000000000000007", 7),
        ("wait=" + "0" * 5000 + "7", 0),
        ("wait=" + "9" * 5000, 0),
        ("wait=\u0663", 0),
        (["respond-async", "wait=7"], 7),
        (["wait=7", "respond-async"], 7),
        # The first of several counts, on whatever line it stands.
        ("wait=7, wait=9", 7),
        (["wait=7", "wait=9"], 7),
        ("wait=x, wait=9", 0),
        # Text in quotes is a value, whatever it looks like.
        ('note="a, wait=9"', 0),
        ('note=", wait=9", wait=3', 3),
        ('note="\\", wait=9", wait=3', 3),
        ('wait=3; note=", wait=9"', 3),
        ('note; by="x, wait=9, y"', 0),
        # A quote that is never closed ends with its line.
        ('note="a, wait=9', 0),
        (['note="a', "wait=9"], 9),
    ],
)
def test_a_preference_is_met_as_far_as_it_can_be(prefer: str | list[str], seconds: int) -> None:
    """RFC 7240: what is not understood is ignored, what is too much is cut; several lines are one list."""
    lines = [prefer] if isinstance(prefer, str) else prefer
    assert wait_seconds(CIMultiDict(("Prefer", line) for line in lines)) == seconds


@pytest.mark.parametrize("prefer", ["", 'wait="0"', "wait=x", "handling=strict"])
def test_without_a_wait_that_can_be_read_the_usual_one_holds(prefer: str) -> None:
    assert wait_seconds(CIMultiDict(Prefer=prefer), default=5) == 5
    assert wait_seconds(CIMultiDict(Prefer="wait=0"), default=5) == 0


async def test_only_those_who_wait_for_the_key_are_woken() -> None:
    """Two of one order both are."""
    waiters = Waiters()
    first, second, other = waiters.add(b"A"), waiters.add(b"A"), waiters.add(b"B")
    waiters.deliver([TailedRecord(b"A", b"event"), TailedRecord(b"C", b"nobody's")])
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
    waiters.deliver([TailedRecord(b"A", b"1"), TailedRecord(b"A", b"2")])
    await asyncio.sleep(0)
    assert [await waiter.next(0.01) for _ in range(3)] == [b"1", b"2", None]
