"""Whether requests may be taken: not before Postgres and Kafka are known to belong together, nor while they don't."""

import logging
import threading
from collections.abc import Callable

from gateway.http.problems import SERVERS_DISAGREE, UNAVAILABLE, ProblemError
from runtime.exits import StartRefusedError, start_thread

_log = logging.getLogger(__name__)

_EVERY_S = 30.0
#: While a person is about to repair it.
_RETRY_S = 2.0
_RETRY_AFTER_S = 30

OK = "ok"
UNKNOWN = "not known yet"
REFUSED = "refused: see the log"


class Agreement:
    """Looks again and again, in a thread of its own. What was known stands while the servers can't be asked."""

    def __init__(self, await_agreement: Callable[..., int | None]) -> None:
        """`await_agreement` has all its arguments but `pause`."""
        self._await_agreement = await_agreement
        self._stopping = threading.Event()
        #: `OK`, `UNKNOWN` or `REFUSED`.
        self.state = UNKNOWN
        #: How many each topic has; None before the first look that found agreement.
        self.partitions: int | None = None

    def require(self) -> int:
        """How many partitions each topic has. Raises `ProblemError` unless requests may be taken."""
        if self.state == REFUSED:
            raise ProblemError(
                SERVERS_DISAGREE,
                "Postgres and Kafka don't belong together, or the tables aren't this release's: nothing is accepted"
                " until the operators have repaired it",
                retry_after_seconds=_RETRY_AFTER_S,
            )
        if self.state == UNKNOWN or self.partitions is None:
            raise ProblemError(
                UNAVAILABLE,
                "it is not known yet whether Postgres and Kafka belong together: one of them is unavailable",
                retry_after_seconds=2,
            )
        return self.partitions

    def start(self) -> None:
        """Begin to look."""
        start_thread("agreement", self._run)

    def stop(self) -> None:
        """Ask no more. A question under way, which may wait for a server that is unavailable, ends with the process."""
        self._stopping.set()

    def _run(self) -> None:
        told = ""
        while not self._stopping.is_set():
            reason = ""
            try:
                partitions = self._await_agreement(pause=self._stopping.wait)
                if partitions is not None:
                    self.partitions = partitions
                    self.state = OK
            except StartRefusedError as error:
                self.state = REFUSED
                reason = str(error)
            if reason and reason != told:
                _log.critical("requests are refused: %s", reason)
            told = reason
            self._stopping.wait(_RETRY_S if reason else _EVERY_S)
