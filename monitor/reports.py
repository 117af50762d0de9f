"""What processes say of themselves at their own ports: causes for what the measurements show."""

import http.client
import json
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple
from urllib.parse import urlencode

from prometheus_client.parser import text_string_to_metric_families

from monitor.figures import ProcessFigures
from runtime.exits import start_thread
from runtime.settings import ENV_PREFIX, SettingsError

_ASK_EVERY_SECONDS = 2.0
#: A process that hangs takes connections and says nothing.
_ANSWER_SECONDS_MAX = 1.0


class Sample(NamedTuple):
    """A value of a metric of a process."""

    process: str
    name: str
    labels: Mapping[str, str]
    value: float


def parse_processes(text: str) -> dict[str, tuple[str, int]]:
    """`invoices-1=10.0.0.7:9100,…` by name. Raises `SettingsError`."""
    found: dict[str, tuple[str, int]] = {}
    for part in filter(None, (each.strip() for each in text.split(","))):
        name, equals, address = part.partition("=")
        host, colon, port = address.rpartition(":")
        if not (name and equals and host and colon and port.isascii() and port.isdecimal()):
            raise SettingsError(
                f"{ENV_PREFIX}MONITOR_PROCESSES: {part!r} is not NAME=HOST:PORT, as invoices-1=10.0.0.7:9100"
            )
        found[name] = host.strip("[]"), int(port)
    return found


class Reports:
    """Asks each process whether it is ready, every few seconds, from threads of its own."""

    def __init__(self, processes: Mapping[str, tuple[str, int]]) -> None:
        """`processes`: name → where its metrics port is."""
        self._processes = dict(processes)
        self._since: dict[str, float] = {}
        self._latest: dict[str, ProcessFigures] = {}
        self._stop = threading.Event()

    def start(self) -> None:
        """Begin to ask."""
        for name in self._processes:
            start_thread(f"asks {name}", self._go_on, name)

    def stop(self) -> None:
        """Ask no more."""
        self._stop.set()

    def latest(self) -> tuple[ProcessFigures, ...]:
        """What each said last, in the order given; those that were not asked yet are left out."""
        return tuple(self._latest[name] for name in self._processes if name in self._latest)

    def samples(self, names: Sequence[str]) -> list[Sample]:
        """What these metrics are in every process that has them and answers. Blocks for a second at most."""
        if not self._processes:
            return []
        with ThreadPoolExecutor(len(self._processes), "metrics of") as threads:
            answers = threads.map(lambda place: _read_metrics(*place, names=names), self._processes.values())
            return [
                Sample(process, sample.name, sample.labels, sample.value)
                for process, text in zip(self._processes, answers, strict=True)
                for family in text_string_to_metric_families(text)
                for sample in family.samples
                if sample.name in names
            ]

    def _go_on(self, name: str) -> None:
        while not self._stop.is_set():
            self._latest[name] = self._report(name, ask(*self._processes[name]))
            self._stop.wait(_ASK_EVERY_SECONDS)

    def _report(self, name: str, says: str) -> ProcessFigures:
        if not says:
            self._since.pop(name, None)
            return ProcessFigures(name, True, "")
        since = self._since.setdefault(name, time.time())
        return ProcessFigures(name, False, f"{says}, since {time.strftime('%H:%M:%S', time.localtime(since))}")


def _read_metrics(host: str, port: int, *, names: Sequence[str]) -> str:
    """In Prometheus' format; empty where nobody answers."""
    connection = http.client.HTTPConnection(host, port, timeout=_ANSWER_SECONDS_MAX)
    try:
        connection.request("GET", "/metrics?" + urlencode({"name[]": names}, doseq=True))
        answer = connection.getresponse()
        text = answer.read().decode()
    except (OSError, http.client.HTTPException):
        return ""
    finally:
        connection.close()
    return text if answer.status == http.client.OK else ""


def ask(host: str, port: int) -> str:
    """Why the process there is not ready; empty if it is."""
    connection = http.client.HTTPConnection(host, port, timeout=_ANSWER_SECONDS_MAX)
    try:
        connection.request("GET", "/readyz")
        answer = connection.getresponse()
        body = answer.read()
    except TimeoutError:
        return f"does not answer within {_ANSWER_SECONDS_MAX:g} s"
    except (OSError, http.client.HTTPException) as error:
        return f"can't be reached: {getattr(error, 'strerror', None) or error}"
    finally:
        connection.close()
    if answer.status == http.client.OK:
        return ""
    try:
        parts = json.loads(body)
    except ValueError:
        return f"answers {answer.status}"
    wrong = [f"{name} {state}" for name, state in parts.items() if name != "status" and state != "ok"]
    return "; ".join(wrong) or str(parts.get("status", f"answers {answer.status}"))
