"""Grounds that several scenarios use, so that they can share a stack."""

from chaos.scenario import WORKERS, Detours, Ground

#: The processes that write to Postgres reach it through a proxy; the gateway and the relay reach Kafka through one.
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
    "analytics-1": ("postgres",),
}
WAYS = Ground(workers=dict(WORKERS), detours=_WAYS)
#: Redis is reached through proxies, and the gateway's Postgres is. Holds last as by default: payments are not slow.
LOSABLE = Ground(
    detours={"gateway": ("redis", "postgres"), "stock-1": ("redis",)}, environment={"GAPLESS_HOLD_SECONDS": "600"}
)
