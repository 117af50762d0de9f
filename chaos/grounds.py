"""Stacks that several scenarios need alike, so that they can share one."""

from chaos.scenario import WORKERS, Detours, Ground

#: Who writes to Postgres, and reaches it through a proxy; the gateway reaches Kafka so.
_WAYS: Detours = {
    "gateway": ("kafka",),
    "relay": ("postgres", "kafka"),
    "checkouts-1": ("postgres",),
    "checkouts-2": ("postgres",),
    "payments-1": ("postgres",),
    "orders-1": ("postgres",),
    "invoices-1": ("postgres",),
    "invoices-2": ("postgres",),
    "documents-1": ("postgres",),
}
WAYS = Ground(workers=dict(WORKERS), detours=_WAYS)
