"""The table of roles: the command line, the local stack, the audit and the agents read it.

`docker-compose.yml`, the documents and the scenarios of `chaos` name the roles too; tests compare them with this table.
"""

from dataclasses import dataclass

from schemas.catalog import (
    CATALOGUE_EVENTS,
    CHECKOUT_REQUESTS,
    INVENTORY_EVENTS,
    INVOICE_EVENTS,
    INVOICE_REQUESTS,
    ORDER_COMMANDS,
    ORDER_EVENTS,
    PAYMENT_EVENTS,
    PAYMENT_NOTICES,
    REVIEW_EVENTS,
    Topic,
)

_WORKER_SETTINGS = ("metrics_port", "worker_slot", "worker_data")


@dataclass(frozen=True, slots=True)
class Role:
    """What one kind of process does."""

    name: str
    #: Description shown by the command line.
    does: str
    #: The module whose `run(settings)` is the process. Imported on use, so that an invoices worker loads no fonts.
    module: str
    #: The topics of its consumer group and of its positions; a worker is a role that has some.
    reads: tuple[Topic, ...] = ()
    #: Fields of `Settings` that must differ between the processes of a machine, ports among them.
    own_settings: tuple[str, ...] = _WORKER_SETTINGS

    @property
    def command(self) -> tuple[str, ...]:
        """The arguments of `gapless` that run it."""
        return ("worker", self.name) if self.reads else (self.name,)


ROLES: dict[str, Role] = {
    role.name: role
    for role in (
        Role("gateway", "accepts requests over HTTP", "gateway.app", own_settings=("gateway_port", "metrics_port")),
        Role("relay", "publishes the journal", "streams.relay.relay", own_settings=("metrics_port",)),
        Role("deliveries", "sends webhooks and e-mail", "streams.deliveries", own_settings=("metrics_port",)),
        Role(
            "monitor",
            "measures every stage and serves the dashboard",
            "monitor.app",
            own_settings=("metrics_port",),
        ),
        Role(
            "search",
            "keeps a search index of the catalogue and answers from it",
            "search.app",
            own_settings=("metrics_port", "worker_data", "search_port"),
        ),
        Role("checkouts", "claims stock for orders, or refuses them", "streams.checkouts", (CHECKOUT_REQUESTS,)),
        Role("payments", "calls the payment provider", "streams.payments", (ORDER_EVENTS, PAYMENT_NOTICES)),
        Role(
            "orders",
            "moves orders on payments, commands and timeouts",
            "streams.orders",
            (PAYMENT_EVENTS, ORDER_COMMANDS),
        ),
        Role(
            "stock",
            "keeps Redis' copies of stock and products equal to Postgres",
            "streams.stock",
            (INVENTORY_EVENTS, ORDER_EVENTS, CATALOGUE_EVENTS, REVIEW_EVENTS),
        ),
        Role("invoices", "numbers invoices and credit notes", "streams.invoices", (INVOICE_REQUESTS,)),
        Role("documents", "renders and stores documents", "streams.documents", (INVOICE_EVENTS,)),
        Role(
            "notifications",
            "writes a delivery for each webhook and e-mail that tells of an event",
            "streams.notifications",
            (ORDER_EVENTS, INVOICE_EVENTS),
        ),
        Role(
            "analytics",
            "counts what sellers sell, by the minute",
            "streams.analytics",
            (ORDER_EVENTS, PAYMENT_EVENTS, INVENTORY_EVENTS, INVOICE_EVENTS),
        ),
    )
}

#: The roles of `gapless worker`, each an agent, and the topics that each reads.
READERS: dict[str, tuple[Topic, ...]] = {role.name: role.reads for role in ROLES.values() if role.reads}
