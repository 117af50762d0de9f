"""One real stack for all tests of the whole way: each leaves it running, drained and clean for the next."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.async_api import expect

from local.stack import Stack
from tests.collector import Collector
from tests.e2e.running import Running

_KEPT_LOGS = Path("test-logs") / "e2e"

# What a page shows may take the browser, the stack and a busy machine much longer than the usual 5 s.
expect.set_options(timeout=60_000)


@pytest.fixture(scope="session")
def collector() -> Iterator[Collector]:
    """Where the stack sends its traces."""
    with Collector() as made:
        yield made


@pytest.fixture(scope="session")
def session_stack(request: pytest.FixtureRequest, collector: Collector) -> Iterator[Running]:
    """Everything, as `gapless up` runs it, tracing what asks for it. If a test fails, the logs stay."""
    data = Path(tempfile.mkdtemp(prefix="gapless-e2e-"))
    stack = Stack(data, bound=True)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("GAPLESS_OTLP_URL", collector.url)
            patch.setenv("OTEL_TRACES_SAMPLER", "parentbased_always_off")
            patch.setenv("OTEL_BSP_SCHEDULE_DELAY", "200")
            stack.start()
        yield Running(stack)
    finally:
        stack.stop()
        if request.session.testsfailed:
            shutil.copytree(data / "logs", _KEPT_LOGS, dirs_exist_ok=True)
            print(f"\nthe stack's logs are in {_KEPT_LOGS.absolute()}")
        stack.remove()


@pytest.fixture
def running(session_stack: Running) -> Running:
    """The stack, everything in it running."""
    session_stack.wait_until_ready()
    return session_stack
