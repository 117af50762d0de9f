"""Commands that run one process against configured services."""

import gc
import importlib
import os

import click

from runtime import logs, traces
from runtime.roles import READERS, ROLES
from runtime.settings import Settings, load

_HELP = "\n".join(
    [
        "Run one worker until SIGTERM. GAPLESS_WORKER_SLOT must differ among the workers of a role.",
        "",
        "\b",
        *(f"{name:<13}  {ROLES[name].does}" for name in READERS),
    ]
)


@click.command(help=_HELP)
@click.argument("role", type=click.Choice(list(READERS)))
def worker(role: str) -> None:
    """Run one worker."""
    settings = load()
    run_process(role, settings, f"{role}-{settings.worker_slot}")


@click.command()
def relay() -> None:
    """Publish the journal to Kafka until SIGTERM. Several may run: each output partition has one publisher."""
    run_process("relay", load(), "relay")


@click.command()
def deliveries() -> None:
    """Send webhooks and e-mail until SIGTERM. Several may run: each delivery is one sender's at a time."""
    run_process("deliveries", load(), "deliveries")


@click.command()
def monitor() -> None:
    """Measure every stage and show it until SIGTERM: a dashboard, and metrics. One is enough."""
    run_process("monitor", load(), "monitor")


@click.command()
def gateway() -> None:
    """Run the HTTP gateway until SIGTERM. Any number may run: it holds no state."""
    settings = load()
    try:
        run_process("gateway", settings, "gateway")
    except OSError as error:
        where = f"{settings.gateway_host}:{settings.gateway_port}"
        raise click.ClickException(
            f"GAPLESS_GATEWAY_PORT: cannot listen at {where}: {error.strerror or error}; name a free port, or an"
            " address of this machine in GAPLESS_GATEWAY_HOST"
        ) from None


def run_process(role: str, settings: Settings, process: str) -> None:
    # A batch makes some 50,000 small objects, all dropped at its end: collected every 700, they cost 10% of the rate.
    # So do the imports that follow, whose objects stay.
    gc.set_threshold(100_000, 20, 100)
    logs.configure(settings.log_level, {"process": process})
    # Names its sessions in Postgres, and so the rows that it writes there: see `0015_workers.sql`.
    os.environ.setdefault("PGAPPNAME", process)
    with traces.sent_to(settings.otlp_url, role, process):
        importlib.import_module(ROLES[role].module).run(settings)
