"""Batches the concurrent questions of many callers into one call to a service."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

Question = TypeVar("Question")
Answer = TypeVar("Answer")


class MicroBatch(Generic[Question, Answer]):
    """Collects questions that arrive in one turn of the loop, or while a call is under way, into one call.

    `ask_all` answers a list of questions with a list as long. If it raises, everyone who asked in that call gets the
    exception. At most `calls_max` calls are under way at once, each with `questions_max` questions at most; what waits
    is bounded by who asks. A call begins `pace_s` after the last one at the earliest, so that at a steady trickle not
    every question costs a call; the first after a silence waits for `gather_s` alone, for others that come with it.
    """

    def __init__(
        self,
        ask_all: Callable[[list[Question]], Awaitable[list[Answer]]],
        *,
        questions_max: int = 500,
        calls_max: int = 1,
        pace_s: float = 0.0,
        gather_s: float = 0.0,
    ) -> None:
        self._ask_all = ask_all
        self._questions_max = questions_max
        self._calls_max = calls_max
        self._pace_s = pace_s
        self._gather_s = gather_s
        self._begin_at = 0.0
        self._waiting: list[tuple[Question, asyncio.Future[Answer]]] = []
        self._scheduled = False
        # Strong references, because the event loop only has weak ones.
        self._calls: set[asyncio.Task[None]] = set()

    def ask(self, question: Question) -> asyncio.Future[Answer]:
        """A future of the answer, done when the call that contains the question returns."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Answer] = loop.create_future()
        self._waiting.append((question, future))
        self._schedule(loop)
        return future

    async def close(self) -> None:
        """Cancel the calls under way."""
        for call in list(self._calls):
            call.cancel()
        await asyncio.gather(*self._calls, return_exceptions=True)

    def _schedule(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._scheduled or not self._waiting or len(self._calls) >= self._calls_max:
            return
        self._scheduled = True
        pause_s = max(self._begin_at - loop.time(), self._gather_s)
        if pause_s > 0:
            loop.call_later(pause_s, self._start)
        else:
            loop.call_soon(self._start)

    def _start(self) -> None:
        self._scheduled = False
        self._begin_at = asyncio.get_running_loop().time() + self._pace_s
        while self._waiting and len(self._calls) < self._calls_max:
            batch, self._waiting = self._waiting[: self._questions_max], self._waiting[self._questions_max :]
            call = asyncio.get_running_loop().create_task(self._call(batch))
            self._calls.add(call)
            call.add_done_callback(self._ended)

    def _ended(self, call: asyncio.Task[None]) -> None:
        self._calls.discard(call)
        self._schedule(asyncio.get_running_loop())

    async def _call(self, batch: list[tuple[Question, asyncio.Future[Answer]]]) -> None:
        batch = [each for each in batch if not each[1].done()]
        if not batch:
            return
        try:
            answers = await self._ask_all([question for question, _ in batch])
            if len(answers) != len(batch):
                raise RuntimeError(f"{len(answers)} answers to {len(batch)} questions")
        # Any exception belongs to the callers; raised here, it would be lost.
        except BaseException as error:
            for _, future in batch:
                if not future.done():
                    if isinstance(error, asyncio.CancelledError):
                        future.cancel()
                    else:
                        future.set_exception(error)
            if not isinstance(error, Exception):
                raise
            return
        for (_, future), answer in zip(batch, answers, strict=True):
            if not future.done():
                future.set_result(answer)
