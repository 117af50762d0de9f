"""Gives turns to processes, to the server's side of their sessions, and to their senders, one small step at a time."""

from collections.abc import Callable, Coroutine
from typing import Any

from sinks.postgres.session import SQL
from tests.simulation.choices import DRAWS_MAX, Choices
from tests.simulation.postgres import Database
from tests.simulation.sessions import Connection, Until
from tests.simulation.violation import Exited, Violation

#: A history that has not drained this many steps after its last fault counts as one that does not drain.
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
        #: Records that its Kafka client has accepted for sending, by topic and partition.
        self.outbox: dict[tuple[str, int], list[tuple[Any, ...]]] = {}
        #: It got batches with records missing before them, and may end for that reason.
        self.lossy = False
        self.alive = True
        self._until: Until = None
        self._coroutine = body(self)

    def ready(self, now: int) -> bool:
        """Whether it can continue."""
        return self.alive and self.resumes_at <= now and (self._until is None or self._until())

    def step(self) -> None:
        """Continue to the next point of interruption. Raises `Exited` if it ends itself."""
        try:
            self._until = self._coroutine.send(None)
        except StopIteration:
            self.alive = False
        except Exception as error:
            raise Violation(f"{self.name} can't go on: {type(error).__name__}: {error}") from error

    def cancel(self, error: BaseException) -> None:
        """Throw an error into it, as Faust does when it revokes a partition."""
        self.alive = False
        try:
            self._coroutine.throw(error)
        except (StopIteration, type(error)):
            for connection in self.connections:
                connection.close_now()
            return
        raise Violation(f"{self.name} went on after it was cancelled")

    def kill(self) -> None:
        """End it at once, without any effect of its cleanup code."""
        self.alive = False
        for connection in self.connections:
            connection.broken = connection.closed = True
        self._coroutine.close()


class Scheduler:
    """Takes turns by choice; in the drain all in rotation."""

    def __init__(self, choices: Choices) -> None:
        self.choices = choices
        self.now = 0
        self.database: Database
        self.processes: list[Process] = []
        self.trace: list[str] | None = None
        #: The process whose turn it is, if any.
        self.current: Process | None = None

    def note(self, text: str) -> None:
        """Record a line of the history, if it is traced."""
        if self.trace is not None:
            self.trace.append(f"{self.now:5} {text}")

    def on_exit(self, process: Process) -> None:
        """Called when a process has ended itself."""
        raise NotImplementedError

    def deliver(self, process: Process, output: tuple[str, int]) -> None:
        """Deliver the next record of an outbox to the broker."""
        raise NotImplementedError

    def next_wake(self) -> int | None:
        """The time when a sleeping process continues, if all others are idle."""
        raise NotImplementedError

    def actors(self) -> list[Any]:
        """All that could do something now."""
        now = self.now
        found: list[Any] = [each for each in self.processes if each.ready(now)]
        found += [each for each in self.database.backends if each.runnable]
        for process in self.processes:
            if process.outbox and process.alive and process.resumes_at <= now:
                found += [(process, output) for output, records in process.outbox.items() if records]
        return found

    def act(self, actor: Any) -> None:
        """Let an actor make one step."""
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
        """One turn, of a chosen actor."""
        self.now += 1
        if len(self.choices.made) > DRAWS_MAX:
            raise Violation("it draws for ever")
        actors = self.actors()
        if actors:
            self.act(actors[self.choices.below(len(actors))])

    def drain(self) -> None:
        """Give turns in rotation, without further faults, until there is nothing left to do."""
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
    """The name of a session's owner, for readers of a trace."""
    for process in scheduler.processes:
        if any(connection.backend is backend for connection in process.connections):
            return process.name
    return "of a process that is gone"


def _name(text: str) -> str:
    return _NAMES.get(text, text)
