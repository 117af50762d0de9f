"""Commands that run one process against configured services."""

import importlib

import click

from runtime import logs
from runtime.settings import load

#: Imported on use: an invoices worker should not carry the renderer's fonts.
_WORKERS = {
    "checkouts": "streams.checkouts",
    "payments": "streams.payments",
    "orders": "streams.orders",
    "stock": "streams.stock",
    "invoices": "streams.invoices",
    "documents": "streams.documents",
}


@click.command()
@click.argument("role", type=click.Choice(list(_WORKERS)))
def worker(role: str) -> None:
    """Run one worker until SIGTERM. GAPLESS_WORKER_SLOT must differ among the workers of a role.

    \b
    checkouts  claims stock for orders, or refuses them
    payments   calls the payment provider
    orders     moves orders on: by payments, by commands, by time
    stock      keeps what Redis knows of stock after what Postgres decides
    invoices   numbers invoices and credit notes
    documents  renders them and stores them
    """
    settings = load()
    logs.configure(settings.log_level, {"process": f"{role}-{settings.worker_slot}"})
    importlib.import_module(_WORKERS[role]).run(settings)


@click.command()
def relay() -> None:
    """Publish the journal to Kafka until SIGTERM. Several may run: each output partition has one publisher."""
    settings = load()
    logs.configure(settings.log_level, {"process": "relay"})
    importlib.import_module("streams.relay").run(settings)


@click.command()
def gateway() -> None:
    """Run the HTTP gateway until SIGTERM. Any number may run: it holds no state."""
    settings = load()
    logs.configure(settings.log_level, {"process": "gateway"})
    try:
        importlib.import_module("gateway.app").run(settings)
    except OSError as error:
        where = f"{settings.gateway_host}:{settings.gateway_port}"
        raise click.ClickException(f"cannot listen at {where}: {error.strerror or error}") from None
