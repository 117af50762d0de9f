"""Every product is, and is found, as its seller put it last; each put has one event; buyers were shown nothing else."""

from chaos.judge.evidence import Evidence
from chaos.record import Offered

RULE = "catalogue"


def judge_catalogue(evidence: Evidence) -> None:
    """Checks the products of this run."""
    for offered in evidence.record.offered.values():
        _judge_product(evidence, offered)


def _judge_product(evidence: Evidence, offered: Offered) -> None:
    verdict, product_id = evidence.verdict, offered.product_id
    events = evidence.topics.products.get((evidence.ledger.seller_id, product_id), [])
    verdict.counts["product events"] += len(events)
    verdict.counts["products shown to buyers"] += len(offered.shown)
    versions = [each.version for each in events]
    if versions != list(range(1, len(events) + 1)) or len({each.place[:2] for each in events}) > 1:
        verdict.add(RULE, product_id, f"has events of the versions {versions}")
    # An answer that was lost leaves a put of which nobody knows whether it was done; nothing is done twice.
    told = [each.price for each in events]
    if len(set(told)) != len(told) or not set(told) <= set(offered.prices):
        verdict.add(RULE, product_id, f"has events of the prices {told}, and {offered.prices} were put, each once")
    prices = {each.version: each.price for each in events}
    for version, price in offered.accepted.items():
        if prices.get(version) != price:
            verdict.add(RULE, product_id, f"version {version} was put at {price}, its event says {prices.get(version)}")
    for version, price in offered.shown:
        if prices.get(version) != price:
            verdict.add(RULE, product_id, f"buyers were shown version {version} at {price}, which never was")
    answer = evidence.shown.products[product_id]
    verdict.counts["products looked at over HTTP"] += 1
    shown = answer.json()
    variants = shown.get("variants") or [{}]
    last = max(prices.items(), default=(None, None))
    if (answer.status, shown.get("version"), variants[0].get("unit_price")) != (200, *last):
        what = f"{shown.get('version')} at {variants[0].get('unit_price')}, but its last event is {last}"
        verdict.add(RULE, product_id, f"is shown as {answer.status}, version {what}")
    hits = [
        each for each in evidence.shown.found[product_id].json().get("hits", []) if each["product_id"] == product_id
    ]
    verdict.counts["products found"] += len(hits)
    if [(each["version"], each["price"]) for each in hits] != [last]:
        verdict.add(RULE, product_id, f"is found as {[(each['version'], each['price']) for each in hits]}, not {last}")
