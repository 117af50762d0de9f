"""Our processes, once: the command line, the local stack, the audit and the agents read them here.

`docker-compose.yml`, the documents and the scenarios of `chaos` name them too; tests compare those with this table.
"""

from dataclasses import dataclass

from schemas.catalog import (
    CHECKOUT_REQUESTS,
    INVENTORY_EVENTS,
    INVOICE_EVENTS,
    INVOICE_REQUESTS,
    ORDER_COMMANDS,
    ORDER_EVENTS,
    PAYMENT_EVENTS,
    PAYMENT_NOTICES,
    Topic,
)

_WORKER_SETTINGS = ("metrics_port", "worker_slot", "worker_data")


@dataclass(frozen=True, slots=True)
class Role:
    """What a process does."""

    name: str
    #: For people, as the command line shows it.
    does: str
    #: The module whose `run(settings)` is the process. Imported on use: an invoices worker carries no fonts.
    module: str
    #: The topics of its consumer group and of its positions; a worker is a role that has any.
    reads: tuple[Topic, ...] = ()
    #: Fields of `Settings` that each process on a machine must be told for itself, the ports among them.
    own_settings: tuple[str, ...] = _WORKER_SETTINGS

    @property
    def command(self) -> tuple[str, ...]:
        """What runs it, after `gapless`."""
        return ("worker", self.name) if self.reads else (self.name,)


ROLES: dict[str, Role] = {
    role.name: role
    for role in (
        Role("gateway", "takes requests over HTTP", "gateway.app", own_settings=("gateway_port", "metrics_port")),
        Role("relay", "publishes the journal", "streams.relay.relay", own_settings=("metrics_port",)),
        Role(
            "monitor",
            "measures every stage, and shows it",
            "monitor.app",
            own_settings=("metrics_port",),
        ),
        Role("checkouts", "claims stock for orders, or refuses them", "streams.checkouts", (CHECKOUT_REQUESTS,)),
        Role("payments", "calls the payment provider", "streams.payments", (ORDER_EVENTS, PAYMENT_NOTICES)),
        Role(
            "orders",
            "moves orders on: by payments, by commands, by time",
            "streams.orders",
            (PAYMENT_EVENTS, ORDER_COMMANDS),
        ),
        Role(
            "stock",
            "keeps what Redis knows of stock after what Postgres decides",
            "streams.stock",
            (INVENTORY_EVENTS, ORDER_EVENTS),
        ),
        Role("invoices", "numbers invoices and credit notes", "streams.invoices", (INVOICE_REQUESTS,)),
        Role("documents", "renders them and stores them", "streams.documents", (INVOICE_EVENTS,)),
    )
}

#: The roles of `gapless worker`, each an agent: what each reads.
READERS: dict[str, tuple[Topic, ...]] = {role.name: role.reads for role in ROLES.values() if role.reads}
