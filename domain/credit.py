"""Credit notes: what parts of an invoice's lines amount to. Quantities are integers of 10^-6.

Several credit notes of one invoice must add up to it, to the cent, and rounding each by itself would not: so each is
the difference between all that is credited after it and all that was credited before it.

What comes out differs from the rounding of its own product by less than one minor unit, which is what `check` holds
a request for a credit note to.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from domain.amounts import (
    PLAIN_LINE,
    Entry,
    add_up,
    add_up_all,
    line_minor,
    net_of_gross,
    part_minor,
    rate_text,
    rate_total,
)
from domain.checkout import check_name
from domain.invoice import Priced, check_segment, price, price_as
from domain.iso import CURRENCY_EXPONENTS
from domain.money import (
    PRICE_DECIMALS,
    PRICE_SCALE,
    RATE_DECIMALS,
    RATE_MAX,
    SCALE,
    SCALE_DECIMALS,
    divide_half_away,
    minor,
    minor_text,
    scaled,
)
from domain.records import (
    Allowance,
    CreditNoteRequest,
    InvoiceDetails,
    InvoiceLine,
    InvoiceRequest,
    LineDetails,
    RateTotal,
    RequestedLine,
    Totals,
    TotalsDetails,
)
from domain.refusals import INVALID_FIELD, TOTALS_DISAGREE, Refusal

#: The refund of a confirmed order that was cancelled: all of it.
CANCELLATION = "cancellation"
#: Ids of refunds that were made at the payment provider itself begin with it.
FOUND = "provider."
REFUND_ID_CHARS_MAX = 40

#: Of what was never in stock.
NO_STOCK: LineDetails = {**PLAIN_LINE, "stock": False}
#: Minor units that a share of a line may be away from its own product: three roundings have come to it.
_ROUNDED_MAX = 3
# Separates the parts of a digest, ends a line of a log or a text of Postgres: none of them may stand in an id.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
#: What stands in an id as it is: such as re_3Nf8…, with 27 characters.
_PROVIDERS_ID = re.compile(r"[A-Za-z0-9_-]{1,31}")


@dataclass(frozen=True, slots=True)
class CreditedLine:
    """A part of one line of the order, in 10^-6 of its unit. `line` is its position, from 0."""

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
    details: InvoiceDetails | None = None
    totals_details: TotalsDetails | None = None

    @property
    def gross_minor(self) -> int:
        """What goes back to the buyer."""
        return self.net_minor + self.tax_minor


@dataclass(frozen=True, slots=True)
class AskedRefund:
    """What a refund was asked for: pieces by line, an amount with tax, or neither, for all that is left."""

    lines: Mapping[int, int]
    #: Of the one that stands, what it came to; 0 of one that is asked for without.
    amount_minor: int = 0
    #: Of the one that stands: None if nobody noted it.
    for_all_left: bool | None = None


def is_same_refund(before: AskedRefund, asked: AskedRefund) -> bool:
    """Whether a refund is the one that stands under its id, which was asked for `before`."""
    if asked.amount_minor:
        return before.for_all_left is False and not before.lines and before.amount_minor == asked.amount_minor
    if asked.lines:
        return dict(asked.lines) == dict(before.lines)
    return before.for_all_left is not False


def credit(order: InvoiceRequest, before: Mapping[int, int], now: Mapping[int, int]) -> Credit:
    """Credit quantities `now` by line, in 10^-6, after `before` was credited; both within what was ordered.

    `price` has accepted `order`. With everything credited,
    all credits together are exactly the invoice: as long as none is taken back that a later one was made after. Of
    three pieces at 0.664, credited one by one, the second is 0.67; with the first taken back and the other two
    credited at 1.33, 2.00 of 1.99 are. So a credit that may still fail has to end before the next one is made.

    Allowances and charges of the document are credited along with the lines in their category and rate, in proportion.
    """
    after = {line: before.get(line, 0) + now.get(line, 0) for line in before.keys() | now.keys()}
    was, is_now = _sums(order, before), _sums(order, after)
    lines = tuple(
        CreditedLine(line, quantity, is_now.nets[line] - was.nets.get(line, 0))
        for line, quantity in sorted(now.items())
        if quantity
    )
    named = {_group(order, each.line) for each in lines}
    per_rate = []
    for group in sorted(is_now.per_rate):
        taxable, tax = is_now.per_rate[group]
        taxable_before, tax_before = was.per_rate.get(group, (0, 0))
        category, rate = group
        if group in named or (taxable, tax) != (taxable_before, tax_before):
            per_rate.append(rate_total(category, rate, taxable - taxable_before, tax - tax_before))
    net, tax = sum(each["taxable_minor"] for each in per_rate), sum(each["tax_minor"] for each in per_rate)
    details, totals = _details(order, was, is_now, sum(each.net_minor for each in lines), net, net + tax)
    return Credit(lines, tuple(per_rate), net, tax, details, totals)


def credit_amount(
    order: InvoiceRequest, left: Mapping[tuple[str, int], tuple[int, int]], gross_minor: int, reason: str
) -> tuple[list[InvoiceLine], Totals]:
    """The lines and totals of a credit note for an amount with tax: one line for each category and rate that is left.

    `left` has what is left to credit by category and rate: taxable and tax. The amount, at most all of it, is shared
    in proportion to what is left with tax. All that was credited of a rate, this share included, has the invoice's own
    part of tax in it, rounded once: so all of it is exactly what is left.
    """
    invoiced = left_to_credit(order, ())
    whole = sum(taxable + tax for taxable, tax in left.values())
    lines: list[InvoiceLine] = []
    per_rate = []
    given = seen = 0
    for (category, rate), (taxable, tax) in sorted(left.items()):
        seen += taxable + tax
        share = divide_half_away(gross_minor * seen, whole) - given
        given += share
        its_taxable, its_tax = invoiced[category, rate]
        its_gross = its_taxable + its_tax
        after = its_gross - (taxable + tax) + share
        tax_after = divide_half_away(after * its_tax, its_gross) if its_gross > 0 else its_tax
        net = share - (tax_after - (its_tax - tax))
        if share or net:
            total = rate_total(category, rate, net, share - net)
            per_rate.append(total)
            lines.append(
                {
                    "sku": "",
                    "description": reason.strip() or "Refund",
                    "quantity": "1" if net >= 0 else "-1",
                    "unit_price": minor_text(abs(net), order["currency"]),
                    "vat_rate": total["vat_rate"],
                    "vat_category": category,
                    "net_minor": net,
                    "details": NO_STOCK,
                }
            )
    net_sum, tax_sum = sum(each["taxable_minor"] for each in per_rate), sum(each["tax_minor"] for each in per_rate)
    totals: Totals = {
        "net_minor": net_sum,
        "tax_minor": tax_sum,
        "gross_minor": net_sum + tax_sum,
        "per_rate": per_rate,
        "details": None,
    }
    return lines, totals


def left_to_credit(
    order: InvoiceRequest, credited: Iterable[Sequence[RateTotal]]
) -> dict[tuple[str, int], tuple[int, int]]:
    """What is left of the order's invoice by category and rate, after what was `credited`: taxable and tax."""
    priced = price(order)
    if isinstance(priced, Refusal):
        raise ValueError(f"an order that is none: {priced}")
    left = {_rate_group(each): (each["taxable_minor"], each["tax_minor"]) for each in priced.per_rate}
    for per_rate in credited:
        for each in per_rate:
            taxable, tax = left[_rate_group(each)]
            left[_rate_group(each)] = (taxable - each["taxable_minor"], tax - each["tax_minor"])
    return left


def found_refund_id(provider_refund: str) -> str:
    """The id of a refund that was made at the provider itself, from the provider's id of it."""
    if _PROVIDERS_ID.fullmatch(provider_refund):
        return FOUND + provider_refund
    return FOUND + hashlib.sha256(provider_refund.encode()).hexdigest()[: REFUND_ID_CHARS_MAX - len(FOUND)]


def is_found(refund_id: str) -> bool:
    """Whether the refund was made at the provider itself."""
    return refund_id.startswith(FOUND)


def check_refund_id(refund_id: str) -> Refusal | None:
    """1-40 characters, none of them a control character."""
    if not 1 <= len(refund_id) <= REFUND_ID_CHARS_MAX or _CONTROL.search(refund_id):
        return Refusal(
            INVALID_FIELD, "refund_id", f"must have 1 to {REFUND_ID_CHARS_MAX} characters, no control character"
        )
    return None


def check_asked_refund_id(refund_id: str) -> Refusal | None:
    """The id of a refund that is asked for: a name that a URL can hold, and none of those that are kept."""
    if refund_id == CANCELLATION:
        return Refusal(INVALID_FIELD, "refund_id", f"must not be {CANCELLATION}, which stands for a cancelled order")
    if is_found(refund_id):
        detail = f"must not begin with {FOUND}, which stands for a refund made at the payment provider"
        return Refusal(INVALID_FIELD, "refund_id", detail)
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
    refusal = _check_amounts(request) or _check_totals(request["totals"])
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
    return Priced(
        nets,
        per_rate,
        totals["net_minor"],
        totals["tax_minor"],
        totals["gross_minor"],
        digest,
        totals.get("details"),
    )


def _check_amounts(request: CreditNoteRequest) -> Refusal | None:
    details = request.get("details")
    if details is None and all(line.get("details") is None for line in request["lines"]):
        return _check_lines(request) or _check_rates(request)
    refusal = _check_all_lines(request, details) or _check_all_rates(request, details)
    its = request["totals"].get("details")
    if (
        refusal is None
        and details is not None
        and (its is None or its["payable_minor"] != request["totals"]["gross_minor"])
    ):
        return Refusal(TOTALS_DISAGREE, "totals.details", "must state the gross amount as payable")
    return None


def _check_all_lines(request: CreditNoteRequest, details: InvoiceDetails | None) -> Refusal | None:
    """The net amounts of lines, each within what rounding a share of its allowances and of its rate's tax may cost."""
    for index, line in enumerate(request["lines"]):
        amount = line_minor(line, request["currency"])
        if details is not None and details["prices_include_tax"]:
            amount = net_of_gross(amount, scaled(line["vat_rate"], RATE_DECIMALS))
        if abs(line["net_minor"] - amount) > _ROUNDED_MAX:
            detail = f"{line['net_minor']} is too far from {line['quantity']} x {line['unit_price']}"
            return Refusal(TOTALS_DISAGREE, f"lines[{index}].net_minor", detail)
    return None


def _check_all_rates(request: CreditNoteRequest, details: InvoiceDetails | None) -> Refusal | None:
    """Taxable amounts and taxes, each within what rounding may cost."""
    currency, totals = request["currency"], request["totals"]
    taxables: dict[tuple[str, int], int] = {}
    for line in request["lines"]:
        group = (line["vat_category"], scaled(line["vat_rate"], RATE_DECIMALS))
        taxables[group] = taxables.get(group, 0) + line["net_minor"]
    allowances = [] if details is None else details["allowances"]
    charges = [] if details is None else details["charges"]
    for sign, its in ((-1, allowances), (1, charges)):
        for each in its:
            group = (each["vat_category"], scaled(each["vat_rate"], RATE_DECIMALS))
            amount = minor(each["amount"], currency)
            if details is not None and details["prices_include_tax"]:
                amount = net_of_gross(amount, group[1])
            taxables[group] = taxables.get(group, 0) + sign * amount
    # With tax inside, what is left of the rounding of lines before may come to any of these.
    includes_tax = details is not None and details["prices_include_tax"] is True
    slack = _ROUNDED_MAX * (1 + len(allowances) + len(charges)) if includes_tax else 0
    stated = _by_group(totals["per_rate"])
    if len(stated) != len(totals["per_rate"]) or stated.keys() != taxables.keys():
        detail = "must be one for each category and rate of the lines, allowances and charges"
        return Refusal(TOTALS_DISAGREE, "totals.per_rate", detail)
    for group, (taxable, tax) in stated.items():
        if abs(taxable - taxables[group]) > slack:
            detail = f"{taxable} is not what {group[0]} {rate_text(group[1])} amounts to: {taxables[group]}"
            return Refusal(TOTALS_DISAGREE, "totals.per_rate", detail)
        if abs(tax * RATE_MAX - taxable * group[1]) > _ROUNDED_MAX * RATE_MAX:
            detail = f"{tax} is too far from {rate_text(group[1])}% of {taxable}"
            return Refusal(TOTALS_DISAGREE, "totals.per_rate", detail)
    return None


def _check_lines(request: CreditNoteRequest) -> Refusal | None:
    unit = 10 ** CURRENCY_EXPONENTS[request["currency"]]
    for index, line in enumerate(request["lines"]):
        quantity = scaled(line["quantity"], SCALE_DECIMALS)
        if quantity < 0:
            return Refusal(INVALID_FIELD, f"lines[{index}].quantity", "must be positive: a credit note is the return")
        product = quantity * scaled(line["unit_price"], PRICE_DECIMALS) * unit
        if abs(line["net_minor"] * SCALE * PRICE_SCALE - product) >= SCALE * PRICE_SCALE:
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


@dataclass(frozen=True, slots=True)
class _Credited:
    """What parts of an order's lines amount to."""

    nets: dict[int, int]
    per_rate: dict[tuple[str, int], tuple[int, int]]
    #: What is credited of each allowance and charge of the document, as it was asked for: with tax if prices have it.
    allowances: tuple[int, ...] = ()
    charges: tuple[int, ...] = ()
    #: Without tax.
    allowances_net: int = 0
    charges_net: int = 0


def _sums(order: InvoiceRequest, pieces: Mapping[int, int]) -> _Credited:
    currency = order["currency"]
    places = sorted(line for line, count in pieces.items() if count)
    entries: list[Entry] = [
        (*_group(order, line), part_minor(order["lines"][line], pieces[line], currency)) for line in places
    ]
    details = order.get("details")
    if details is None:
        sums = add_up(entries)
        return _Credited(dict(zip(places, sums.nets_minor, strict=True)), _by_group(sums.per_rate))
    parts: dict[tuple[str, int], int] = {}
    wholes: dict[tuple[str, int], int] = {}
    for index, line in enumerate(order["lines"]):
        wholes[_group(order, index)] = wholes.get(_group(order, index), 0) + line_minor(line, currency)
    for category, rate, amount in entries:
        parts[category, rate] = parts.get((category, rate), 0) + amount
    is_whole = all(pieces.get(index, 0) == quantity for index, quantity in enumerate(quantities(order)))

    def share(allowance: Allowance) -> int:
        amount = minor(allowance["amount"], currency)
        group = (allowance["vat_category"], scaled(allowance["vat_rate"], RATE_DECIMALS))
        whole = wholes.get(group, 0)
        if is_whole or not whole:
            return amount if is_whole else 0
        exact = amount * parts.get(group, 0)
        return divide_half_away(exact, whole) if whole > 0 else divide_half_away(-exact, -whole)

    allowances = tuple(share(each) for each in details["allowances"])
    charges = tuple(share(each) for each in details["charges"])
    shared: InvoiceDetails = {
        **details,
        "allowances": _with_shares(details["allowances"], allowances, currency),
        "charges": _with_shares(details["charges"], charges, currency),
        "rounding_amount": "",
        "prepaid_amount": "",
        "accounting": None,
    }
    sums = add_up_all(entries, shared, currency)
    its = sums.details
    return _Credited(
        dict(zip(places, sums.nets_minor, strict=True)),
        _by_group(sums.per_rate),
        allowances,
        charges,
        its["allowances_minor"] if its else 0,
        its["charges_minor"] if its else 0,
    )


def _details(
    order: InvoiceRequest, was: _Credited, is_now: _Credited, lines_minor: int, net_minor: int, gross_minor: int
) -> tuple[InvoiceDetails | None, TotalsDetails | None]:
    """What few credit notes say, which their orders did: their own shares of allowances and charges."""
    details = order.get("details")
    if details is None:
        return None, None
    currency = order["currency"]
    zeros = (0,) * (len(is_now.allowances) + len(is_now.charges))
    before = (*was.allowances, *was.charges) or zeros
    after = (*is_now.allowances, *is_now.charges)
    shares = [later - earlier for later, earlier in zip(after, before, strict=True)]
    between = len(is_now.allowances)
    mine: InvoiceDetails = {
        **details,
        "allowances": _said(_with_shares(details["allowances"], shares[:between], currency)),
        "charges": _said(_with_shares(details["charges"], shares[between:], currency)),
        "rounding_amount": "",
        "prepaid_amount": "",
        "accounting": None,
        "payment": None,
        "preceding_invoices": [],
        "notes": [],
        "attachments": [],
    }
    totals: TotalsDetails = {
        "lines_minor": lines_minor,
        "allowances_minor": is_now.allowances_net - was.allowances_net,
        "charges_minor": is_now.charges_net - was.charges_net,
        "prepaid_minor": 0,
        "rounding_minor": 0,
        "payable_minor": gross_minor,
        "accounting_tax_minor": None,
    }
    return mine, totals


def _with_shares(allowances: Sequence[Allowance], shares: Sequence[int], currency: str) -> list[Allowance]:
    return [
        {**each, "amount": minor_text(share, currency), "percent": "", "base_amount": ""}
        for each, share in zip(allowances, shares, strict=True)
    ]


def _said(allowances: list[Allowance]) -> list[Allowance]:
    return [each for each in allowances if each["amount"].strip("-0.")]


def _by_group(per_rate: Iterable[RateTotal]) -> dict[tuple[str, int], tuple[int, int]]:
    return {_rate_group(each): (each["taxable_minor"], each["tax_minor"]) for each in per_rate}


def _rate_group(total: RateTotal) -> tuple[str, int]:
    return total["vat_category"], scaled(total["vat_rate"], RATE_DECIMALS)


def credited_line(line: RequestedLine, each: CreditedLine, currency: str) -> InvoiceLine:
    """A line of a credit note: a part of a line of its order, with its share of the line's allowances."""
    details = line.get("details")
    whole = scaled(line["quantity"], SCALE_DECIMALS)
    quantity = quantity_text(each.quantity if whole > 0 else -each.quantity)
    if details is None:
        # What was taken back on the invoice is checked as allowances are.
        its = PLAIN_LINE if whole < 0 else None
        return {**line, "quantity": quantity, "net_minor": each.net_minor, "details": its}
    added = line_minor(line, currency) - line_minor(
        {**line, "details": {**details, "allowances": [], "charges": []}}, currency
    )
    share = divide_half_away(added * each.quantity, abs(whole))
    its_first = (details["allowances"] or details["charges"])[:1]
    reason = its_first[0] if its_first else None
    change: Allowance = {
        "amount": minor_text(abs(share), currency),
        "percent": "",
        "base_amount": "",
        "vat_category": "",
        "vat_rate": "",
        "reason": reason["reason"] if reason else "",
        "reason_code": "",
    }
    mine: LineDetails = {
        **details,
        "allowances": [change] if share < 0 else [],
        "charges": [change] if share > 0 else [],
    }
    return {**line, "quantity": quantity, "net_minor": each.net_minor, "details": mine}


def quantities(order: InvoiceRequest) -> list[int]:
    """The quantity of each line, in 10^-6 and without its sign."""
    return [abs(scaled(line["quantity"], SCALE_DECIMALS)) for line in order["lines"]]


def quantity_text(quantity: int) -> str:
    """A quantity in 10^-6 as decimal text: `quantity_text(2_500_000) == "2.5"`."""
    whole, rest = divmod(abs(quantity), SCALE)
    text = f"{whole}.{rest:0{SCALE_DECIMALS}d}".rstrip("0").rstrip(".") if rest else str(whole)
    return f"-{text}" if quantity < 0 else text


def _group(order: InvoiceRequest, line: int) -> tuple[str, int]:
    asked = order["lines"][line]
    return asked["vat_category"], scaled(asked["vat_rate"], RATE_DECIMALS)
