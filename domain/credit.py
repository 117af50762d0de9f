"""Credit notes: what so many pieces of an order's lines amount to.

Several credit notes of one invoice must add up to it, to the cent, and rounding each by itself would not: so each is
the difference between all that is credited after it and all that was credited before it.

What comes out differs from the rounding of its own product by less than one minor unit, which is what `check` holds
a request for a credit note to.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass

from domain.checkout import check_name
from domain.invoice import RATE_MAX, Priced, check_segment, price_as, rate_text, rate_total
from domain.iso import CURRENCY_EXPONENTS
from domain.money import RATE_DECIMALS, SCALE, SCALE_DECIMALS, divide_half_away, scaled
from domain.records import CreditNoteRequest, InvoiceRequest, RateTotal, Totals
from domain.refusals import INVALID_FIELD, TOTALS_DISAGREE, Refusal

#: The refund of a confirmed order that was cancelled: all of it.
CANCELLATION = "cancellation"
REFUND_ID_CHARS_MAX = 40

# Separates the parts of a digest, ends a line of a log or a text of Postgres: none of them may stand in an id.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class CreditedLine:
    """Pieces of one line of the order. `line` is its position, from 0."""

    line: int
    quantity: int
    net_minor: int


@dataclass(frozen=True, slots=True)
class Credit:
    """What a credit note says: its lines, and the totals as a positive invoice would have them."""

    lines: tuple[CreditedLine, ...]
    per_rate: tuple[RateTotal, ...]
    net_minor: int
    tax_minor: int

    @property
    def gross_minor(self) -> int:
        """What goes back to the buyer."""
        return self.net_minor + self.tax_minor


def is_same_refund(lines: Mapping[int, int], for_all_left: bool | None, asked: Mapping[int, int]) -> bool:
    """Whether a refund of `asked` pieces by line (none: of all that is left) is the one that stands under its id.

    That one is for `lines`; `for_all_left` if it was asked for without lines, None if nobody noted that.
    """
    return dict(asked) == dict(lines) if asked else for_all_left is not False


def credit(order: InvoiceRequest, before: Mapping[int, int], now: Mapping[int, int]) -> Credit:
    """Credit `now` pieces by line, after `before` pieces were credited; both within what was ordered.

    `price` has accepted `order`, whose quantities are whole numbers. With everything credited,
    all credits together are exactly the invoice: as long as none is taken back that a later one was made after. Of
    three pieces at 0.664, credited one by one, the second is 0.67; with the first taken back and the other two
    credited at 1.33, 2.00 of 1.99 are. So a credit that may still fail has to end before the next one is made.
    """
    after = {line: before.get(line, 0) + now.get(line, 0) for line in before.keys() | now.keys()}
    nets_before, nets_after = _nets(order, before), _nets(order, after)
    lines = tuple(
        CreditedLine(line, quantity, nets_after[line] - nets_before.get(line, 0))
        for line, quantity in sorted(now.items())
        if quantity
    )
    rates_before, rates_after = _per_rate(order, nets_before), _per_rate(order, nets_after)
    per_rate = []
    for group, (taxable, tax) in sorted(rates_after.items()):
        taxable_before, tax_before = rates_before.get(group, (0, 0))
        category, rate = group
        total = rate_total(category, rate, taxable - taxable_before, tax - tax_before)
        if any(_group(order, each.line) == group for each in lines):
            per_rate.append(total)
    return Credit(
        lines, tuple(per_rate), sum(each.net_minor for each in lines), sum(each["tax_minor"] for each in per_rate)
    )


def check_refund_id(refund_id: str) -> Refusal | None:
    """1-40 characters, none of them a control character."""
    if not 1 <= len(refund_id) <= REFUND_ID_CHARS_MAX or _CONTROL.search(refund_id):
        return Refusal(
            INVALID_FIELD, "refund_id", f"must have 1 to {REFUND_ID_CHARS_MAX} characters, no control character"
        )
    return None


def check_asked_refund_id(refund_id: str) -> Refusal | None:
    """The id of a refund that is asked for: a name that a URL can hold, and not the one kept for cancellations."""
    if refund_id == CANCELLATION:
        return Refusal(INVALID_FIELD, "refund_id", f"must not be {CANCELLATION}, which stands for a cancelled order")
    return check_name("refund_id", refund_id, REFUND_ID_CHARS_MAX) or check_segment("refund_id", refund_id)


def check(request: CreditNoteRequest) -> Priced | Refusal:
    """Check the amounts of a request, or of the credit note that came of it.

    They stand as they were asked for, as far as they add up: which of two cents a refund gets depends on those before
    it. The digest is that of all it says, the amounts included.
    """
    refusal = check_refund_id(request["refund_id"])
    if refusal is not None:
        return refusal
    # Head and lines must be those of an invoice; the amounts may be some cents beside what they come to by themselves.
    exact = price_as("invoice", request)
    if isinstance(exact, Refusal):
        return exact
    refusal = _check_lines(request) or _check_rates(request) or _check_totals(request["totals"])
    if refusal is not None:
        return refusal
    totals = request["totals"]
    nets = tuple(line["net_minor"] for line in request["lines"])
    per_rate = tuple(totals["per_rate"])
    # The reason, which may hold anything, comes last.
    content = (
        exact.content_sha256.hex(),
        request["refund_id"],
        ",".join(map(str, nets)),
        ",".join(
            f"{each['vat_category']} {each['vat_rate']} {each['taxable_minor']} {each['tax_minor']}"
            for each in per_rate
        ),
        request["reason"],
    )
    digest = hashlib.sha256("\x1e".join(content).encode("utf-8", "surrogatepass")).digest()
    return Priced(nets, per_rate, totals["net_minor"], totals["tax_minor"], totals["gross_minor"], digest)


def _check_lines(request: CreditNoteRequest) -> Refusal | None:
    unit = 10 ** CURRENCY_EXPONENTS[request["currency"]]
    for index, line in enumerate(request["lines"]):
        quantity = scaled(line["quantity"], SCALE_DECIMALS)
        if quantity < 0:
            return Refusal(INVALID_FIELD, f"lines[{index}].quantity", "must be positive: a credit note is the return")
        product = quantity * scaled(line["unit_price"], SCALE_DECIMALS) * unit
        if abs(line["net_minor"] * SCALE * SCALE - product) >= SCALE * SCALE:
            detail = f"{line['net_minor']} is a minor unit or more away from {line['quantity']} x {line['unit_price']}"
            return Refusal(TOTALS_DISAGREE, f"lines[{index}].net_minor", detail)
    return None


def _check_rates(request: CreditNoteRequest) -> Refusal | None:
    taxables: dict[tuple[str, str], int] = {}
    for line in request["lines"]:
        group = (line["vat_category"], rate_text(scaled(line["vat_rate"], RATE_DECIMALS)))
        taxables[group] = taxables.get(group, 0) + line["net_minor"]
    per_rate = request["totals"]["per_rate"]
    if len(per_rate) != len(taxables):
        detail = f"must be one for each category and rate of the lines: {len(taxables)}, not {len(per_rate)}"
        return Refusal(TOTALS_DISAGREE, "totals.per_rate", detail)
    for index, total in enumerate(per_rate):
        field = f"totals.per_rate[{index}]"
        # Taken out, so that none is there twice.
        taxable = taxables.pop((total["vat_category"], total["vat_rate"]), None)
        if taxable is None:
            detail = f"{total['vat_category']} {total['vat_rate']} is in no line, or stands twice"
            return Refusal(TOTALS_DISAGREE, field, detail)
        if total["taxable_minor"] != taxable:
            detail = f"the lines amount to {taxable}, not {total['taxable_minor']}"
            return Refusal(TOTALS_DISAGREE, f"{field}.taxable_minor", detail)
        exact = taxable * scaled(total["vat_rate"], RATE_DECIMALS)
        if abs(total["tax_minor"] * RATE_MAX - exact) >= RATE_MAX:
            detail = f"{total['tax_minor']} is a minor unit or more away from {total['vat_rate']}% of {taxable}"
            return Refusal(TOTALS_DISAGREE, f"{field}.tax_minor", detail)
    return None


def _check_totals(totals: Totals) -> Refusal | None:
    net = sum(total["taxable_minor"] for total in totals["per_rate"])
    tax = sum(total["tax_minor"] for total in totals["per_rate"])
    for name, stated, sums in (
        ("net", totals["net_minor"], net),
        ("tax", totals["tax_minor"], tax),
        ("gross", totals["gross_minor"], net + tax),
    ):
        if stated != sums:
            detail = f"the lines amount to {sums}, not {stated}"
            return Refusal(TOTALS_DISAGREE, f"totals.{name}_minor", detail)
    return None


def _nets(order: InvoiceRequest, pieces: Mapping[int, int]) -> dict[int, int]:
    unit = 10 ** CURRENCY_EXPONENTS[order["currency"]]
    return {
        line: divide_half_away(quantity * scaled(order["lines"][line]["unit_price"], SCALE_DECIMALS) * unit, SCALE)
        for line, quantity in pieces.items()
    }


def _per_rate(order: InvoiceRequest, nets: Mapping[int, int]) -> dict[tuple[str, int], tuple[int, int]]:
    taxables: dict[tuple[str, int], int] = {}
    for line, net in nets.items():
        group = _group(order, line)
        taxables[group] = taxables.get(group, 0) + net
    return {group: (taxable, divide_half_away(taxable * group[1], RATE_MAX)) for group, taxable in taxables.items()}


def _group(order: InvoiceRequest, line: int) -> tuple[str, int]:
    asked = order["lines"][line]
    return asked["vat_category"], scaled(asked["vat_rate"], RATE_DECIMALS)
