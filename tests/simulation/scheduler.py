"""Whose turn it is: processes, the server's sides of their sessions, and their senders, one small step at a time."""

from collections.abc import Callable, Coroutine
from typing import Any

from sinks.postgres.session import SQL
from tests.simulation.choices import DRAWS_MAX, Choices
from tests.simulation.postgres import Database
from tests.simulation.sessions import Connection, Until
from tests.simulation.violation import Exited, Violation

#: A history that is not at rest so many steps after its last fault does not come to rest.
DRAIN_STEPS_MAX = 6_000

_NAMES = {text: name for name, text in SQL.items()}

Body = Callable[["Process"], Coroutine[Until, None, None]]


class Process:
    """One process: a coroutine that yields wherever the real one can be interrupted."""

    def __init__(self, name: str, body: Body, resumes_at: int = 0) -> None:
        self.name = name
        self.body = body
        self.resumes_at = resumes_at
        self.connections: list[Connection] = []
        #: Records that its client of Kafka has taken over to send, by topic and partition.
        self.outbox: dict[tuple[str, int], list[tuple[Any, ...]]] = {}
        #: It was given batches with records missing before them: it may end for that.
        self.lossy = False
        self.alive = True
        self._until: Until = None
        self._coroutine = body(self)

    def ready(self, now: int) -> bool:
        """Whether it could go on."""
        return self.alive and self.resumes_at <= now and (self._until is None or self._until())

    def step(self) -> None:
        """Go on to the next point of interruption. Raises `Exited` where it ends itself."""
        try:
            self._until = self._coroutine.send(None)
        except StopIteration:
            self.alive = False
        except Exception as error:
            raise Violation(f"{self.name} can't go on: {type(error).__name__}: {error}") from error

    def cancel(self, error: BaseException) -> None:
        """Throw an error in where it stands, as Faust does when it takes a partition away."""
        self.alive = False
        try:
            self._coroutine.throw(error)
        except (StopIteration, type(error)):
            for connection in self.connections:
                connection.close_now()
            return
        raise Violation(f"{self.name} went on after it was cancelled")

    def kill(self) -> None:
        """End it at once. None of its own code has a say in the world any more."""
        self.alive = False
        for connection in self.connections:
            connection.broken = connection.closed = True
        self._coroutine.close()


class Scheduler:
    """Takes turns by choice; in the drain everybody in turn."""

    def __init__(self, choices: Choices) -> None:
        self.choices = choices
        self.now = 0
        self.database: Database
        self.processes: list[Process] = []
        self.trace: list[str] | None = None
        #: Whose turn it is, if it is a process'.
        self.current: Process | None = None

    def note(self, text: str) -> None:
        """Keep a line of the history, if somebody wants to read it."""
        if self.trace is not None:
            self.trace.append(f"{self.now:5} {text}")

    def on_exit(self, process: Process) -> None:
        """A process has ended itself."""
        raise NotImplementedError

    def deliver(self, process: Process, output: tuple[str, int]) -> None:
        """The next record of an outbox reaches the broker."""
        raise NotImplementedError

    def next_wake(self) -> int | None:
        """When somebody who waits for a time goes on, if all others are at rest."""
        raise NotImplementedError

    def actors(self) -> list[Any]:
        """Whoever could do something now."""
        now = self.now
        found: list[Any] = [each for each in self.processes if each.ready(now)]
        found += [each for each in self.database.backends if each.runnable]
        for process in self.processes:
            if process.outbox and process.alive and process.resumes_at <= now:
                found += [(process, output) for output, records in process.outbox.items() if records]
        return found

    def act(self, actor: Any) -> None:
        """Let it do its step."""
        if isinstance(actor, tuple):
            self.deliver(*actor)
        elif isinstance(actor, Process):
            self.current = actor
            try:
                actor.step()
            except Exited as exited:
                self.note(f"{actor.name} exits: {exited}")
                self.on_exit(actor)
        else:
            if self.trace is not None and actor.queue:
                self.note(f"session {id_of(self, actor)}: {_name(actor.queue[0].text)}")
            actor.step()

    def step(self) -> None:
        """One turn, of whoever is chosen."""
        self.now += 1
        if len(self.choices.made) > DRAWS_MAX:
            raise Violation("it draws for ever")
        actors = self.actors()
        if actors:
            self.act(actors[self.choices.below(len(actors))])

    def drain(self) -> None:
        """Without further faults, everybody in turn, until nobody has anything to do."""
        for _ in range(DRAIN_STEPS_MAX):
            actors = self.actors()
            if not actors:
                wake = self.next_wake()
                if wake is None:
                    return
                self.now = wake
            for actor in actors:
                self.now += 1
                if not isinstance(actor, Process):
                    if isinstance(actor, tuple) or actor.runnable:
                        self.act(actor)
                elif actor.ready(self.now):
                    self.act(actor)
        raise Violation("it does not come to rest: somebody tries the same thing for ever")


def id_of(scheduler: Scheduler, backend: Any) -> str:
    """Whose session it is, for readers."""
    for process in scheduler.processes:
        if any(connection.backend is backend for connection in process.connections):
            return process.name
    return "of a process that is gone"


def _name(text: str) -> str:
    return _NAMES.get(text, text)
