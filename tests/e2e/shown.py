"""The commands that the documents show: found by parsing, run in the order shown, compared by their output's shape."""

import json
import os
import re
import select
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

ROOT = Path(__file__).parents[2]
#: A fence without a language holds commands if it begins with one of these; otherwise it is a drawing.
_PROGRAMS = ("gapless ", "make ", "python -m ", "curl ")
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`((?:gapless|make|python -m) [^`\n]+)`")
#: A service that has just started may take so long on a busy machine.
_AS_SHOWN_S_MAX = 120.0
_COMMAND_S_MAX = 480.0
_LEFT_OUT = re.compile("…|\\.\\.\\.")

#: What takes minutes: its pattern, and the short form that is run instead.
SHORT = {
    r"make demo\b": "gapless demo --clients 20 --requests 100 --buyers 1200",
    r"python -m tests\.simulation --seeds \d+ --mutation \S+": (
        "! python -m tests.simulation --seeds 3000 --mutation no-compare-and-set"
    ),
}
#: What takes minutes and has tests of its own: its pattern, and where its short form is tried.
ELSEWHERE = {
    r"make (test|test-tools|check)\b": "tests",
    r"make bench\b": "tests/e2e/test_benchmarks.py",
    r"make shop\b": "tests/e2e/test_shop.py",
    r"python -m benchmarks\b": "tests/e2e/test_benchmarks.py",
    r"make chaos\b": "tests/chaos/test_scenarios.py",
    r"python -m chaos .*--scenario\b": "tests/chaos/test_scenarios.py",
    r"make simulate\b": "tests/simulation/test_simulation.py",
    r"python -m tests\.simulation --mutations\b": "tests/simulation/test_simulation.py",
    r"JDBC_URL=": "tests/tools/test_clients.py",
    r"(npm ci --prefix|node|go -C|mvn --file|java -jar|psql --file) examples/": "tests/tools/test_clients.py",
    r"make fuzz\b": "tests/integration/test_fuzz_http.py",
}


@dataclass(frozen=True)
class Shown:
    """A command in a document, and the output shown under it; empty where none is."""

    document: str
    line: int
    command: str
    output: str

    @property
    def where(self) -> str:
        """For messages."""
        return f"{self.document}:{self.line}"

    @property
    def to_run(self) -> str | None:
        """The command or its short form; None if it is tried elsewhere."""
        if any(re.match(pattern, self.command) for pattern in ELSEWHERE):
            return None
        short = (form for pattern, form in SHORT.items() if re.match(pattern, self.command))
        return next(short, self.command)

    @property
    def ends_the_stack(self) -> bool:
        """Whether it stops what the commands of further documents need."""
        return self.command.startswith("gapless down")

    @property
    def only_reads(self) -> bool:
        """Whether it may be run again until what it waits for is there."""
        return self.command.startswith(
            ("curl ", "gapless dead-letters list", "gapless webhooks log", "gapless email log")
        ) and not re.search(r" (-X|-d|--data|--json)\b", self.command)


def documents() -> list[str]:
    """Every document, in the order in which a newcomer reads: the first one starts a stack."""
    found = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("benchmarks/*.md"), *ROOT.glob("ops/**/*.md")]
    return sorted((str(path.relative_to(ROOT)) for path in found), key=lambda name: (name != "README.md", name))


def commands(document: str) -> list[Shown]:
    """What the document's fences show, in order."""
    text = (ROOT / document).read_text()
    shown: list[Shown] = []
    for fence in _FENCE.finditer(text):
        language, body = fence.groups()
        line = text.count("\n", 0, fence.start()) + 2
        if language == "console":
            shown += _session(document, line, body)
        elif language in ("sh", "bash", "shell") or (not language and body.startswith(_PROGRAMS)):
            shown += _session(document, line, re.sub(r"^(?=\S)", "$ ", body, flags=re.MULTILINE))
    return shown


def statements(document: str) -> list[str]:
    """The SQL that the document shows."""
    return [body for language, body in _FENCE.findall((ROOT / document).read_text()) if language == "sql"]


def inline(document: str) -> list[str]:
    """Commands that stand in its sentences; they may hold placeholders."""
    return _INLINE.findall(_FENCE.sub("", (ROOT / document).read_text()))


def _session(document: str, line: int, body: str) -> Iterator[Shown]:
    lines = body.splitlines()
    at = 0
    while at < len(lines):
        if not lines[at].startswith("$ "):
            raise ValueError(f"{document}:{line + at}: output without a command: {lines[at]}")
        began, command = at, lines[at][2:]
        at += 1
        while at < len(lines) and _goes_on(command):
            # Where each line was given its `$ `, those that continue one have it as well.
            command += "\n" + lines[at].removeprefix("$ ")
            at += 1
        output = []
        while at < len(lines) and not lines[at].startswith("$ "):
            output.append(lines[at])
            at += 1
        yield Shown(document, line + began, command, "\n".join(output).strip())


def _goes_on(command: str) -> bool:
    """Whether the shell would ask for another line."""
    if command.endswith("\\"):
        return True
    return subprocess.run(["bash", "-n"], input=command, capture_output=True, text=True).returncode != 0


class Shell:
    """A shell in a folder, as a reader of one document has it: variables stay from command to command."""

    def __init__(self, folder: Path, path: str) -> None:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("GAPLESS_")}
        environment |= {"PATH": path, "PYTHONPATH": str(ROOT), "NO_COLOR": "1"}
        self._scratch = tempfile.TemporaryDirectory(prefix="gapless-shown-")
        self._output, self._errors = (Path(self._scratch.name) / name for name in ("output", "errors"))
        self._bash = subprocess.Popen(
            ["bash"], cwd=folder, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        # An answer of 400 or above ends curl with 22, wherever the document doesn't ask for that itself.
        self._say(
            'curl() { case " $* " in *\' --fail \'*) command curl -sS "$@";;'
            ' *) command curl -sS --fail-with-body "$@";; esac; }'
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._bash.kill()
        self._bash.communicate()
        self._scratch.cleanup()

    def _say(self, line: str) -> None:
        assert self._bash.stdin is not None
        self._bash.stdin.write(line + "\n")

    def run(self, command: str) -> tuple[int, str, str]:
        """Exit status, output and errors."""
        assert self._bash.stdout is not None
        self._say(f"{{\n{command}\n}} </dev/null >{self._output} 2>{self._errors}; echo $?")
        # One whose quotes or here-documents have no end would be waited for for ever.
        ended, _, _ = select.select([self._bash.stdout], [], [], _COMMAND_S_MAX)
        assert ended, f"not done within {_COMMAND_S_MAX:g} s: {command}"
        status = int(self._bash.stdout.readline())
        return status, self._output.read_text(), self._errors.read_text()

    def run_as_shown(self, shown: Shown) -> None:
        """Fail unless the command ends well and its output has the shape of what is shown."""
        command = shown.to_run
        assert command is not None
        give_up_at = time.monotonic() + _AS_SHOWN_S_MAX
        while True:
            status, output, errors = self.run(command)
            found = f"exit {status}" if status else difference(shown.output, output)
            if found is None:
                return
            if not shown.only_reads or time.monotonic() > give_up_at:
                raise AssertionError(f"{shown.where}: {command}\n{found}\n--- output\n{output}\n--- errors\n{errors}")
            time.sleep(0.2)


def difference(shown: str, found: str) -> str | None:
    """In what the output found differs from the shape of the one shown; None if in nothing."""
    if not shown:
        return None
    if shown.startswith(("{", "[")):
        return _difference_of_values(_read(shown), json.loads(found), "")
    if _lines_match(shown.splitlines(), found.strip().splitlines()):
        return None
    return f"not as shown:\n{shown}"


def _lines_match(shown: Sequence[str], found: Sequence[str]) -> bool:
    """Whether the lines found have the shape of those shown; `…` alone stands for any number of lines."""
    if not shown:
        return not found
    if shown[0].strip() == "…":
        return any(_lines_match(shown[1:], found[skipped:]) for skipped in range(len(found) + 1))
    return bool(found) and _line_matches(shown[0], found[0]) and _lines_match(shown[1:], found[1:])


def _line_matches(shown: str, found: str) -> bool:
    if _LEFT_OUT.search(shown):
        parts = _LEFT_OUT.split(_shape(" ".join(shown.split())))
        return re.fullmatch(".*".join(re.escape(part) for part in parts), _shape(" ".join(found.split()))) is not None
    return _as_far_as_its_figure(shown) == _as_far_as_its_figure(found)


def _read(shown: str) -> Any:
    """JSON in which a last `…` stands for further members or elements."""
    return json.loads(re.sub(r"…\s*\]", '"…"]', re.sub(r"…\s*\}", '"…": 0}', shown)))


def _difference_of_values(shown: Any, found: Any, at: str) -> str | None:
    if isinstance(shown, dict) and isinstance(found, dict):
        if (shown.get("status"), found.get("status")) == ("issued", "stored"):
            # Its document was faster than the answer.
            found = {**found, "status": "issued", **({"document": None} if "document" in found else {})}
        wanted = shown.keys() - {"…"}
        missing, unknown = wanted - found.keys(), set() if "…" in shown else found.keys() - wanted
        if missing or unknown:
            return f"{at or 'the object'}: shown and not there {sorted(missing)}, there and not shown {sorted(unknown)}"
        each = (_difference_of_values(shown[key], found[key], f"{at}.{key}") for key in wanted)
        return next((difference for difference in each if difference), None)
    if isinstance(shown, list) and isinstance(found, list):
        wanted_elements = [element for element in shown if element != "…"]
        if len(found) < len(wanted_elements) or (len(wanted_elements) == len(shown) and len(found) != len(shown)):
            return f"{at}: {len(found)} elements, shown are {len(shown)}"
        pairs = enumerate(zip(wanted_elements, found, strict=False))
        each = (_difference_of_values(one, other, f"{at}[{n}]") for n, (one, other) in pairs)
        return next((difference for difference in each if difference), None)
    if isinstance(shown, str) and isinstance(found, str):
        parts = _LEFT_OUT.split(shown)
        if re.fullmatch(".*".join(re.escape(_shape(part)) for part in parts), _shape(found), re.DOTALL):
            return None
    elif type(shown) is type(found) and (shown == found or isinstance(shown, int | float)):
        return None
    return f"{at}: {found!r}, shown is {shown!r}"


def _shape(text: str) -> str:
    """Without what differs from run to run: digits."""
    return re.sub(r"\d[\d.,:]*", "0", text).strip()


def _as_far_as_its_figure(line: str) -> str:
    """The line without widths and bars, up to its first figure: what follows may hang on the figure."""
    line = re.sub(r"[━╸╺─]+", "─", " ".join(line.split()))
    return re.sub(r"\d.*", "0", re.sub(r"^\d\. ", "", line))
