"""Sellers: their data for invoices, numbering, logos and API keys."""

import hashlib
import re
import zoneinfo
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from datetime import date, datetime, timedelta
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import TupleRow, class_row, dict_row

from domain.iso import COUNTRIES
from domain.numbering import DEFAULT_FORMATS, PARTITIONED, POLICIES, NumberFormatError, check_format
from domain.records import Contact, Identifier, PartyDetails, Payment
from domain.rules import SellerFacts
from domain.terms import LANGUAGE, check_party, check_payment
from domain.texts import LONG_CHARS_MAX, check_lines, check_text, first_refusal

Connection = psycopg.AsyncConnection[TupleRow]

#: How many hex digits of a key's digest are its name; the key itself is not stored.
KEY_NAME_CHARS = 12
_KEY_CHARS_MIN = 32
_TEXT_CHARS_MAX = 200
_NUMBERING = ("numbering_policy", "number_format")


class SellerError(Exception):
    """The change can't be made to this seller; the message says why, in one line."""


#: What `SellerRow` has beyond what every seller says.
MORE = (
    "tax_number tax_name colour trading_name legal_id legal_id_scheme electronic_address electronic_address_scheme"
    " contact_name contact_phone contact_email"
    " language note payment_terms payment_days payment_means iban bic account_name"
).split()
#: Of these a text may have line breaks.
_IN_LINES = ("note", "payment_terms")
_COLOUR = re.compile(r"#[0-9a-f]{6}", re.ASCII)
_DAYS = re.compile(r"[0-9]{1,3}", re.ASCII)


@dataclass(frozen=True, slots=True)
class SellerRow:
    """A seller's data for invoices. An empty `number_format` means the policy's default."""

    seller_id: str
    legal_name: str
    street: str
    city: str
    postal_code: str
    country: str
    vat_id: str | None = None
    time_zone: str = "UTC"
    numbering_policy: str = PARTITIONED
    number_format: str = ""
    #: Hex digest of the logo on future invoices.
    logo_sha256: str | None = None
    #: Local tax registration, BT-32.
    tax_number: str = ""
    #: What the tax is called, such as GST; empty for VAT.
    tax_name: str = ""
    #: Of the documents' rules, #rrggbb; empty for the template's.
    colour: str = ""
    trading_name: str = ""
    #: Such as a SIREN or a number of the commercial register, with its ISO 6523 scheme. BT-30.
    legal_id: str = ""
    legal_id_scheme: str = ""
    #: Where e-invoices go, with its EAS scheme. BT-34.
    electronic_address: str = ""
    electronic_address_scheme: str = ""
    contact_name: str = ""
    contact_phone: str = ""
    contact_email: str = ""
    #: What a request that leaves it out has in its place: language, note, terms, and how to pay.
    language: str = ""
    note: str = ""
    payment_terms: str = ""
    payment_days: str = ""
    payment_means: str = ""
    iban: str = ""
    bic: str = ""
    account_name: str = ""

    @property
    def says_more(self) -> bool:
        """Whether it says anything beyond its name, address and VAT identifier."""
        return any(getattr(self, name) for name in MORE)

    @property
    def details(self) -> PartyDetails | None:
        """Names and identifiers that few sellers have."""
        contact: Contact = {"name": self.contact_name, "phone": self.contact_phone, "email": self.contact_email}
        if not (self.trading_name or self.legal_id or self.electronic_address or any(contact.values())):
            return None
        return {
            "trading_name": self.trading_name,
            "legal_id": _identifier(self.legal_id, self.legal_id_scheme),
            "electronic_address": _identifier(self.electronic_address, self.electronic_address_scheme),
            "contact": contact if any(contact.values()) else None,
        }

    def payment(self, issue_date: date | None = None) -> Payment | None:
        """How its invoices are paid that say nothing of it; None if it doesn't say."""
        due = ""
        if self.payment_days and issue_date is not None:
            due = (issue_date + timedelta(days=int(self.payment_days))).isoformat()
        payment: Payment = {
            "due_date": due,
            "terms": self.payment_terms,
            "means": self.payment_means,
            "means_text": "",
            "iban": self.iban,
            "bic": self.bic,
            "account_name": self.account_name,
            "card_last_digits": "",
            "mandate": "",
            "creditor_id": "",
            "debited_iban": "",
            "remittance": "",
            "paid_at": "",
        }
        return payment if any(payment.values()) else None

    @property
    def facts(self) -> SellerFacts:
        """What the rules of tax ask."""
        return SellerFacts(self.country, self.vat_id, self.tax_number, self.tax_name)


@dataclass(frozen=True, slots=True)
class ApiKey:
    """An API key; `name` is the first hex digits of its digest."""

    name: str
    seller_id: str
    label: str
    created_at: datetime
    revoked_at: datetime | None


#: The seller of the local stack.
LOCAL_SELLER = SellerRow(
    "demo", "Example Shop SAS", "12 Rue de la République", "Lyon", "69001", "FR", "FR40303265045", "Europe/Paris"
)
#: The seller of the monitor's test requests. Its name and numbers show that they are tests.
PROBE_SELLER = SellerRow(
    "probe",
    "TEST of the monitor, not a company",
    "-",
    "-",
    "-",
    "FR",
    None,
    "UTC",
    "partitioned",
    DEFAULT_FORMATS["partitioned"].replace("INV", "TEST"),
    tax_number="TEST",
)

_COLUMNS = (
    "seller_id, legal_name, street, city, postal_code, country, vat_id, time_zone, numbering_policy, number_format,"
    " encode(logo_sha256, 'hex') AS logo_sha256, tax_number, tax_name, colour, trading_name, legal_id, legal_id_scheme,"
    " electronic_address, electronic_address_scheme, contact_name, contact_phone, contact_email, language, note,"
    " payment_terms, payment_days, payment_means, iban, bic, account_name"
)


async def create(connection: Connection, seller: SellerRow) -> SellerRow:
    """Add a seller; return it as stored. Raises `SellerError`."""
    checked = _checked(seller)
    values = asdict(checked)
    del values["logo_sha256"]
    query = sql.SQL("INSERT INTO sellers ({}) VALUES ({}) ON CONFLICT (seller_id) DO NOTHING").format(
        sql.SQL(", ").join(map(sql.Identifier, values)), sql.SQL(", ").join(map(sql.Placeholder, values))
    )
    try:
        added = await connection.execute(query, values)
    except psycopg.errors.CheckViolation:
        raise SellerError(
            f"{seller.seller_id!r} is no seller id: small letters, digits and hyphens, 40 at most"
        ) from None
    if added.rowcount == 0:
        raise SellerError(f"the seller {seller.seller_id!r} exists already")
    return checked


async def update(connection: Connection, seller_id: str, changes: Mapping[str, str | None]) -> SellerRow:
    """Change a seller's fields by name; return it as stored. Issued invoices don't change.

    Raises `SellerError`, also for a change of numbering once there is a series, since new numbers could equal old ones.
    """
    unknown = set(changes) - {field.name for field in fields(SellerRow)} | set(changes) & {"seller_id", "logo_sha256"}
    if unknown:
        raise SellerError(f"cannot be set: {', '.join(sorted(unknown))}")
    async with connection.transaction():
        # Locked, so that the seller's first series can't be created between the check and the change.
        await connection.execute("SELECT FROM sellers WHERE seller_id = %s FOR UPDATE", (seller_id,))
        before = await read(connection, seller_id)
        merged: dict[str, Any] = {**asdict(before), **changes}
        if changes.get("numbering_policy", before.numbering_policy) != before.numbering_policy:
            merged["number_format"] = changes.get("number_format") or ""
        after = _checked(SellerRow(**merged), before)
        renumbers = any(getattr(after, name) != getattr(before, name) for name in _NUMBERING)
        if renumbers and await _has_series(connection, seller_id):
            raise SellerError(f"{seller_id} has issued invoices: its numbering policy and format stay as they are")
        values = {name: value for name, value in asdict(after).items() if name not in ("seller_id", "logo_sha256")}
        query = sql.SQL("UPDATE sellers SET {} WHERE seller_id = {}").format(
            sql.SQL(", ").join(
                sql.SQL("{} = {}").format(sql.Identifier(name), sql.Placeholder(name)) for name in values
            ),
            sql.Placeholder("seller_id"),
        )
        await connection.execute(query, {**values, "seller_id": seller_id})
    return after


async def read(connection: Connection, seller_id: str) -> SellerRow:
    """One seller. Raises `SellerError` if there is none."""
    async with connection.cursor(row_factory=class_row(SellerRow)) as cursor:
        await cursor.execute(f"SELECT {_COLUMNS} FROM sellers WHERE seller_id = %s", (seller_id,))  # noqa: S608
        seller = await cursor.fetchone()
    if seller is None:
        raise SellerError(f"there is no seller {seller_id!r}")
    return seller


async def read_all(connection: Connection) -> list[SellerRow]:
    """Every seller, by id."""
    async with connection.cursor(row_factory=class_row(SellerRow)) as cursor:
        await cursor.execute(f"SELECT {_COLUMNS} FROM sellers ORDER BY seller_id")  # noqa: S608
        return await cursor.fetchall()


async def set_logo(connection: Connection, seller_id: str, image: bytes | None) -> str | None:
    """Set or remove the PNG or JPEG on the seller's future invoices; return its hex digest. Raises `SellerError`."""
    if image is not None:
        # Imported on use: agents that read sellers draw nothing.
        from documents.logo import BadLogoError, logo_image

        # The same check as the documents agent's: with a logo that it refuses, invoices would get no document.
        try:
            logo_image(image)
        except BadLogoError as error:
            raise SellerError(str(error)) from None
    digest = None if image is None else hashlib.sha256(image).digest()
    async with connection.transaction():
        if image is not None:
            # Logos are never deleted, because issued invoices name them by their digest.
            await connection.execute(
                "INSERT INTO logos (sha256, body) VALUES (%s, %s) ON CONFLICT DO NOTHING", (digest, image)
            )
        changed = await connection.execute(
            "UPDATE sellers SET logo_sha256 = %s WHERE seller_id = %s", (digest, seller_id)
        )
        if changed.rowcount == 0:
            raise SellerError(f"there is no seller {seller_id!r}")
    return None if digest is None else digest.hex()


async def add_key(connection: Connection, seller_id: str, label: str, key: str) -> ApiKey:
    """Add an API key of the seller. Only its digest is stored. Raises `SellerError`."""
    if len(key) < _KEY_CHARS_MIN or not key.isascii() or not key.isprintable() or " " in key:
        raise SellerError(f"a key must be {_KEY_CHARS_MIN} or more printable ASCII characters without spaces")
    await read(connection, seller_id)
    digest = hashlib.sha256(key.encode()).digest()
    added = await connection.execute(
        "INSERT INTO api_keys (key_sha256, seller_id, label) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING",
        (digest, seller_id, label),
    )
    if added.rowcount == 0:
        raise SellerError("this key is in use already, or was revoked")
    return next(each for each in await read_keys(connection, seller_id) if each.name == _key_name(digest))


async def revoke_key(connection: Connection, seller_id: str, name: str) -> None:
    """Revoke a key for ever, by its name from `read_keys`. Raises `SellerError`."""
    revoked = await connection.execute(
        "UPDATE api_keys SET revoked_at = coalesce(revoked_at, now())"
        " WHERE seller_id = %s AND left(encode(key_sha256, 'hex'), %s) = %s",
        (seller_id, KEY_NAME_CHARS, name),
    )
    if revoked.rowcount == 0:
        raise SellerError(f"the seller {seller_id!r} has no key {name!r}")


async def read_keys(connection: Connection, seller_id: str) -> list[ApiKey]:
    """The seller's keys, oldest first."""
    async with connection.cursor(row_factory=class_row(ApiKey)) as cursor:
        await cursor.execute(
            "SELECT left(encode(key_sha256, 'hex'), %s) AS name, seller_id, label, created_at, revoked_at"
            " FROM api_keys WHERE seller_id = %s ORDER BY created_at, name",
            (KEY_NAME_CHARS, seller_id),
        )
        return await cursor.fetchall()


async def ensure(connection: Connection, seller: SellerRow, label: str, key: str) -> SellerRow:
    """Create a seller if it is missing, with `key` among its keys. Repeating it changes nothing."""
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute("SELECT FROM sellers WHERE seller_id = %s", (seller.seller_id,))
        if await cursor.fetchone() is None:
            await create(connection, seller)
    name = _key_name(hashlib.sha256(key.encode()).digest())
    if name not in {each.name for each in await read_keys(connection, seller.seller_id)}:
        await add_key(connection, seller.seller_id, label, key)
    return await read(connection, seller.seller_id)


async def _has_series(connection: Connection, seller_id: str) -> bool:
    cursor = await connection.execute("SELECT FROM series WHERE seller_id = %s LIMIT 1", (seller_id,))
    return await cursor.fetchone() is not None


def _key_name(digest: bytes) -> str:
    return digest.hex()[:KEY_NAME_CHARS]


def numbering_fault(seller: SellerRow) -> str | None:
    """Why the seller's number format is invalid under today's rules; None if it is valid."""
    try:
        check_format(seller.number_format, seller.numbering_policy)
    except NumberFormatError as error:
        return str(error)
    return None


def _checked(seller: SellerRow, before: SellerRow | None = None) -> SellerRow:
    """The seller with its default format filled in; raises `SellerError` for values that invoices can't have.

    A format that is unchanged from `before` is not checked again: after a new rule the seller must still be able to
    change its address.
    """
    if seller.numbering_policy not in POLICIES:
        raise SellerError(f"the numbering policy must be one of {', '.join(POLICIES)}")
    number_format = seller.number_format or DEFAULT_FORMATS[seller.numbering_policy]
    numbered = replace(seller, number_format=number_format)
    if before is None or any(getattr(numbered, name) != getattr(before, name) for name in _NUMBERING):
        fault = numbering_fault(numbered)
        if fault is not None:
            raise SellerError(fault)
    if seller.country not in COUNTRIES:
        raise SellerError(f"{seller.country!r} is no ISO 3166-1 alpha-2 code in capitals, such as FR")
    if seller.time_zone not in zoneinfo.available_timezones():
        raise SellerError(f"{seller.time_zone!r} is no time zone, such as Europe/Paris")
    for name in ("legal_name", "street", "city", "postal_code", "vat_id"):
        text = getattr(seller, name)
        if name in ("legal_name", "city") and not text.strip():
            raise SellerError(f"{name} must not be empty")
        if text is not None and (
            len(text) > _TEXT_CHARS_MAX or any(ord(char) < 32 or ord(char) == 127 for char in text)
        ):
            raise SellerError(f"{name} must have at most {_TEXT_CHARS_MAX} characters, no control character among them")
    fault = _fault_in_more(seller)
    if fault is not None:
        raise SellerError(fault)
    return replace(numbered, vat_id=seller.vat_id or None)


def _fault_in_more(seller: SellerRow) -> str | None:
    """What is wrong with what few sellers say; None if nothing."""
    for name in MORE:
        text = getattr(seller, name)
        if name in _IN_LINES:
            refusal = check_lines(name, text, LONG_CHARS_MAX)
        else:
            refusal = check_text(name, text, _TEXT_CHARS_MAX)
        if refusal is not None:
            return str(refusal)
    if seller.colour and _COLOUR.fullmatch(seller.colour) is None:
        return "colour must be six hexadecimal digits behind a #, such as #204080"
    if seller.payment_days and _DAYS.fullmatch(seller.payment_days) is None:
        return "payment_days must be a whole number of days, such as 30"
    if seller.language and LANGUAGE.fullmatch(seller.language) is None:
        return "language must be a BCP 47 tag, such as de or pt-BR"
    party, payment = seller.details, seller.payment()
    refusal = first_refusal(check_party("", party))
    if refusal is None and payment is not None:
        refusal = first_refusal(check_payment("", payment))
    return None if refusal is None else str(refusal)


def _identifier(text: str, scheme: str) -> Identifier | None:
    return {"id": text, "scheme": scheme} if text else None
