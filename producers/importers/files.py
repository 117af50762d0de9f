"""Files of orders of every kind that is known, as invoice requests."""

from collections.abc import Iterable, Iterator

from producers.importers.found import File, Found, Place, Rejected, Source
from producers.importers.jsonl import Jsonl
from producers.importers.shopify import Shopify
from producers.importers.stripe_exports import StripeBalance, StripeInvoices, StripePayments
from producers.importers.table import FileError
from producers.importers.woocommerce import WooCommerce

SOURCES: tuple[Source, ...] = (Jsonl(), Shopify(), WooCommerce(), StripeBalance(), StripeInvoices(), StripePayments())
#: Names of columns that a message about an unknown table shows.
_COLUMNS_SHOWN = 6


def found(files: Iterable[File]) -> Iterator[Found]:
    """What is in the files; a file that can't be read is rejected as a whole, and the next one is read."""
    for file in files:
        try:
            yield from source_of(file).found(file)
        except FileError as error:
            yield Rejected(Place(file.path, 0), "", "", str(error))


def source_of(file: File) -> Source:
    """What kind of file it is; raises `FileError`."""
    for source in SOURCES:
        if source.reads(file):
            return source
    columns = ", ".join(file.table.columns[:_COLUMNS_SHOWN])
    known = "; ".join(source.title for source in SOURCES)
    raise FileError(f"its columns ({columns} …) are of no file that is known: {known}")
