"""Many questions in few calls, with each answer for the right caller."""

import asyncio

import pytest

from sinks.microbatch import MicroBatch


class Service:
    """Answers n with 2n, when the test permits it."""

    def __init__(self) -> None:
        self.calls: list[list[int]] = []
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def ask_all(self, questions: list[int]) -> list[int]:
        """Answer a call."""
        self.calls.append(questions)
        await self.may_answer.wait()
        if 13 in questions:
            raise ValueError("thirteen")
        return [2 * question for question in questions]


async def test_questions_of_one_turn_are_one_call() -> None:
    """Each caller gets its own answer."""
    service = Service()
    batch = MicroBatch(service.ask_all)
    assert await asyncio.gather(*(batch.ask(n) for n in range(5))) == [0, 2, 4, 6, 8]
    assert service.calls == [[0, 1, 2, 3, 4]]


async def test_what_comes_during_a_call_waits_for_the_next_one() -> None:
    """There is one call at a time, so a slow service gets larger calls and not more of them."""
    service = Service()
    batch = MicroBatch(service.ask_all, questions_max=3)
    service.may_answer.clear()
    first = batch.ask(1)
    await asyncio.sleep(0.01)
    later = [batch.ask(n) for n in range(2, 7)]
    await asyncio.sleep(0.01)
    assert service.calls == [[1]]
    service.may_answer.set()
    assert await first == 2
    assert await asyncio.gather(*later) == [4, 6, 8, 10, 12]
    assert service.calls == [[1], [2, 3, 4], [5, 6]]


async def test_a_failed_call_fails_its_own_questions_alone() -> None:
    """The next call is made nevertheless."""
    service = Service()
    batch = MicroBatch(service.ask_all, questions_max=1)
    answers = await asyncio.gather(*(batch.ask(n) for n in (12, 13, 14)), return_exceptions=True)
    assert answers[0] == 24
    assert isinstance(answers[1], ValueError)
    assert answers[2] == 28


async def test_who_has_gone_is_not_asked_for() -> None:
    """A cancelled caller costs no call."""
    service = Service()
    batch = MicroBatch(service.ask_all)
    gone, stays = batch.ask(1), batch.ask(2)
    gone.cancel()
    assert await stays == 4
    assert service.calls == [[2]]


async def test_a_wrong_number_of_answers_is_an_error_and_no_mix_up() -> None:
    """Answers are matched to questions by their place only."""

    async def forgets(questions: list[int]) -> list[int]:
        return questions[1:]

    with pytest.raises(RuntimeError):
        await MicroBatch(forgets).ask(1)


async def test_closing_ends_calls_under_way() -> None:
    """Their callers are cancelled, too."""
    service = Service()
    service.may_answer.clear()
    batch = MicroBatch(service.ask_all)
    asked = batch.ask(1)
    await asyncio.sleep(0.01)
    await batch.close()
    with pytest.raises(asyncio.CancelledError):
        await asked


async def test_a_trickle_of_questions_is_gathered_to_the_pace_and_the_first_waits_for_nothing() -> None:
    """With a pace of a minute only the first call can have begun."""
    service = Service()
    batch = MicroBatch(service.ask_all, pace_s=60)
    assert await batch.ask(1) == 2
    waiting = [batch.ask(n) for n in (2, 3)]
    await asyncio.sleep(0.01)
    assert service.calls == [[1]]
    assert not any(each.done() for each in waiting)


async def test_what_was_gathered_goes_in_one_call() -> None:
    """No question waits for a second interval."""
    service = Service()
    batch = MicroBatch(service.ask_all, pace_s=0.02)
    await batch.ask(1)
    assert await asyncio.gather(*(batch.ask(n) for n in (2, 3, 4))) == [4, 6, 8]
    assert service.calls == [[1], [2, 3, 4]]


async def test_who_asks_a_moment_later_is_in_the_same_call() -> None:
    """Those who ask together need some turns of the loop for it."""
    service = Service()
    batch = MicroBatch(service.ask_all, gather_s=0.05)
    first = batch.ask(1)
    for _ in range(5):
        await asyncio.sleep(0)
    second = batch.ask(2)
    assert (await first, await second) == (2, 4)
    assert service.calls == [[1, 2]]
