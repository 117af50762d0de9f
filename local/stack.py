"""The whole product on this machine, in one folder: Kafka, Postgres, Valkey and our own processes."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from http.client import HTTPException
from pathlib import Path
from typing import Any, Self
from urllib.error import HTTPError
from urllib.request import urlopen

from local import layout
from local.errors import StackError
from runtime.settings import Settings, refuse_unknown

#: Longer than a worker takes that hangs when it first joins its group, is ended for it, and starts again.
READY_SECONDS_MAX = 240.0
STOP_SECONDS_MAX = 60.0
_ANSWER_SECONDS_MAX = 2.0


_USUAL = layout.Special()


class Stack:
    """The stack of one folder, controlled from outside: another process supervises it.

    - `workers`: how many per role; None keeps the folder's numbers.
    - `servers_only`: only Kafka, Postgres and Valkey run.
    - `bound`: the stack stops when the process that started it ends, even if killed.
    - `special`: differences from the default.
    """

    def __init__(
        self,
        data: Path,
        workers: Mapping[str, int] | None = None,
        *,
        servers_only: bool = False,
        bound: bool = False,
        special: layout.Special = _USUAL,
    ) -> None:
        self.data = data.expanduser().resolve()
        self._workers = workers
        self._servers_only = servers_only
        self._bound = bound
        self._special = special
        self._supervisor: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def describe(self) -> None:
        """Write `stack.json`, the processes and ports to run, if the stack is down.

        Raises `StackError`, and `SettingsError` for a misspelt variable, which every process would refuse.
        """
        refuse_unknown()
        if self.pid() is not None:
            raise StackError(f"a stack is already up in {self.data}; `gapless down` stops it")
        layout.describe(self.data, self._workers, self._servers_only, self._special)

    def start(self, timeout: float = READY_SECONDS_MAX) -> None:
        """Start the stack in the background and return when all of it is ready.

        Raises `StackError` if it is not ready within `timeout` seconds, after stopping it.
        """
        self.describe()
        log = self.data / "logs" / "supervisor.log"
        with log.open("ab") as output:
            before = output.tell()
            self._supervisor = subprocess.Popen(  # noqa: S603
                [
                    sys.executable,
                    "-m",
                    "local.supervisor",
                    str(self.data),
                    *(["--bound"] if self._bound else []),
                ],
                stdin=subprocess.PIPE if self._bound else subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        deadline = time.monotonic() + timeout
        while not self.status()["ready"]:
            if self._supervisor.poll() is not None:
                self._let_go()
                lines = _said(log, before) or ["it wrote no output"]
                raise StackError(f"{lines[-1].removeprefix('gapless: ')} (log: {log})")
            if time.monotonic() > deadline:
                slow = [self._why(p["name"], p["state"]) for p in self.status()["processes"] if p["state"] != "running"]
                self.stop()
                said = "".join(f"\n{line}" for line in _said(log, before) if " ended (" in line)
                raise StackError(
                    f"not ready after {timeout:g} s ({', '.join(slow) or 'set-up'}): see {log.parent}{said}"
                )
            time.sleep(0.05)

    def _why(self, name: str, state: str) -> str:
        """What a process that is not ready waits for, as far as it says so."""
        port = layout.read_description(self.data)["ports"].get(name, 0)
        try:
            with urlopen(f"http://127.0.0.1:{port}/readyz", timeout=_ANSWER_SECONDS_MAX):
                return f"{name} {state}"
        except HTTPError as error:
            report = json.load(error)
            return f"{name} {state}: " + ", ".join(
                f"{part} {its}" for part, its in report.items() if part != "status" and its != "ok"
            )
        # Not up yet, stuck, or a server of another kind: its log is what there is.
        except (OSError, ValueError, HTTPException):
            return f"{name} {state}"

    def pid(self) -> int | None:
        """The supervisor's pid; None if the stack is down."""
        from local.supervised import supervisor_pid

        return supervisor_pid(self.data)

    def stop(self, timeout: float = STOP_SECONDS_MAX) -> bool:
        """Stop everything, including what a killed supervisor left running. Returns whether anything ran."""
        from local.supervised import end_leftovers

        pid = self.pid()
        if pid is None:
            return end_leftovers(self.data) > 0
        os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + timeout
        while self.pid() is not None:
            if self._supervisor is not None:
                self._supervisor.poll()
            if time.monotonic() > deadline:
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.02)
        # The supervisor may have been killed, by us or others, and have left processes running.
        end_leftovers(self.data)
        self._let_go()
        return True

    def _let_go(self) -> None:
        """Reap the supervisor, which has ended."""
        if self._supervisor is not None:
            self._supervisor.wait()
            if self._supervisor.stdin is not None:
                self._supervisor.stdin.close()
            self._supervisor = None

    def remove(self) -> None:
        """Stop the stack and delete its data."""
        self.stop()
        shutil.rmtree(self.data, ignore_errors=True)

    def status(self) -> dict[str, Any]:
        """The object that `gapless status --json` prints: ready, data, endpoints, api_key, processes.

        Raises `StackError` if the folder has no stack.
        """
        from local.supervised import read_state

        description = layout.read_description(self.data)
        state = read_state(self.data) if self.pid() is not None else None
        names = [(name, role) for name, role in layout.process_names(description)]
        known = {p["name"]: p for p in state["processes"]} if state else {}
        unknown = {"pid": None, "state": "starting" if state else "stopped"}
        return {
            "ready": bool(state and state["ready"]),
            "data": str(self.data),
            "endpoints": self.endpoints(),
            "api_key": layout.read_secret(self.data / "api_key"),
            "processes": [
                {"name": name, "role": role, **{k: known.get(name, unknown)[k] for k in ("pid", "state")}}
                for name, role in names
            ],
        }

    def hold(self, name: str, number: signal.Signals = signal.SIGKILL) -> bool:
        """End a process and prevent its restart until `release`. False if it was down already.

        Raises `StackError` for an unknown name.
        """
        from local.supervised import held

        if name not in (each["name"] for each in self.status()["processes"]):
            raise StackError(f"the stack in {self.data} has no process {name}")
        held(self.data, name).touch()
        pid = self.process_pid(name)
        if pid is None:
            return False
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
            # A process stopped by SIGSTOP handles the signal only after SIGCONT.
            os.kill(pid, signal.SIGCONT)
        return True

    def release(self, name: str) -> None:
        """Let the supervisor restart a held process."""
        from local.supervised import held

        held(self.data, name).unlink(missing_ok=True)

    def process_pid(self, name: str) -> int | None:
        """The pid of a process; None while it is down."""
        pids: list[int | None] = [each["pid"] for each in self.status()["processes"] if each["name"] == name]
        return pids[0] if pids else None

    def target(self, name: str, service: str) -> int:
        """The port of `service` to which the detour of the process `name` must forward."""
        ports: dict[str, int] = layout.read_description(self.data)["ports"]
        return ports[layout.kafka_listener(name) if service == "kafka" else service]

    def endpoints(self) -> dict[str, str]:
        """The URL of each part. The Postgres URL contains the password of the local database."""
        description = layout.read_description(self.data)
        ports = description["ports"]
        provider = {} if description["servers_only"] else {"provider": f"http://127.0.0.1:{ports['provider']}"}
        # Missing in the description of a former release.
        inbox = {"inbox": f"http://127.0.0.1:{ports['mail']}"} if "mail" in ports else {}
        # With the token: whoever can read this output can read the file with the token.
        token = layout.read_secret(self.data / "monitor_token")
        link = f"http://127.0.0.1:{ports.get('monitor', 0)}/login?token={token}"
        dashboard = {} if description["servers_only"] or "monitor" not in ports else {"dashboard": link}
        return {
            "gateway": f"http://127.0.0.1:{ports['gateway']}",
            "kafka": f"127.0.0.1:{ports['kafka']}",
            "postgres": layout.postgres_url(self.data, ports["postgres"]),
            "redis": f"redis://127.0.0.1:{ports['redis']}/0",
            "objects": (self.data / "objects").as_uri(),
            **provider,
            **inbox,
            **dashboard,
        }

    def environment(self, name: str = "") -> dict[str, str]:
        """The `GAPLESS_…` variables for the process `name` of this stack, or for any other user of its services."""
        return layout.environment_of(self.data, layout.read_description(self.data), name)

    def settings(self, name: str = "") -> Settings:
        """The same as settings, regardless of this process's own environment."""
        return layout.settings_from(self.environment(name))


def _said(log: Path, after: int) -> list[str]:
    """The log's lines after this byte."""
    with log.open("rb") as written:
        written.seek(after)
        return written.read().decode(errors="replace").strip().splitlines()
