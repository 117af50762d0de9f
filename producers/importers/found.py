"""What importers find in files, and the protocol that each kind of file is behind."""

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import Protocol, TypeAlias

from producers.importers.table import Table, read_table


@dataclass(frozen=True, slots=True)
class Place:
    """Where something was found; rows as spreadsheets count them, and as editors count lines. 0 is the whole file."""

    path: Path
    row: int

    def __str__(self) -> str:
        return f"{self.path}:{self.row}" if self.row else str(self.path)


@dataclass(frozen=True, slots=True)
class Request:
    """An order as the body of `POST /v1/invoices`."""

    place: Place
    order_id: str
    payload: bytes
    #: What the export doesn't say and was concluded, or what the request can't say.
    remarks: tuple[str, ...] = ()
    #: Given back to the buyer since, in this currency: not a part of the request.
    refunded: Decimal = Decimal(0)
    currency: str = ""


@dataclass(frozen=True, slots=True)
class Skipped:
    """Left out on purpose, by its state: pending, voided, cancelled …"""

    place: Place
    order_id: str
    state: str


@dataclass(frozen=True, slots=True)
class Rejected:
    """An order that can't be sent. `column` is a column of the file or a field of the request; may be empty."""

    place: Place
    order_id: str
    column: str
    reason: str

    def __str__(self) -> str:
        what = f"{self.column}: {self.reason}" if self.column else self.reason
        return f"{self.place}: {self.order_id}: {what}" if self.order_id else f"{self.place}: {what}"


Found: TypeAlias = Request | Skipped | Rejected


@dataclass(frozen=True)
class Options:
    """What the caller says about the files, where they don't."""

    #: Name of the encoding; recognised if None.
    encoding: str | None = None
    #: In percent: of exports that say no tax. Their amounts hold it.
    vat_rate: Decimal | None = None
    #: ISO 4217: of exports that say none.
    currency: str | None = None
    #: Whether to send also orders with the buyer's address and no e-mail address: nobody is sent their invoices.
    without_email: bool = False
    #: Whether to check also what stands in a file as it will be sent, and costs more time to check than to send.
    are_bodies_checked: bool = False


@dataclass(frozen=True)
class File:
    """A file to be imported."""

    path: Path
    options: Options = Options()

    @cached_property
    def table(self) -> Table:
        """Its rows; raises `FileError` for what is no table."""
        return read_table(self.path, self.options.encoding)


class Source(Protocol):
    """One kind of file."""

    #: As people know it, such as "Shopify's export of orders".
    title: str

    def reads(self, file: File) -> bool:
        """Whether the file is of this kind, by its name or its columns; raises `FileError`."""

    def found(self, file: File) -> Iterator[Found]:
        """All of its orders, one by one; raises `FileError`."""
