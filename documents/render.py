"""An invoice or credit note as a PDF: a pure function of the event and the template's version."""

import gc
from collections.abc import Callable, Mapping

from documents.fonts import face
from documents.template_1.page import template_1
from documents.template_2.page import template_2
from domain.records import CreditNoteIssued, InvoiceIssued

DocumentEvent = InvoiceIssued | CreditNoteIssued


class UnknownTemplateError(ValueError):
    """The event was issued for a template that this release can't print: one of a later release."""


def warm() -> None:
    """Load the fonts of most documents, so that the first is as quick as the others."""
    face(0)
    face(1)


def render(event: DocumentEvent, logo: bytes | None) -> bytes:
    """The document of an event, by its template; `logo` is a PNG or JPEG file.

    The same arguments give the same bytes in any process on any day, with the libraries of the lock file.
    Raises `UnknownTemplateError`, and `BadLogoError` for a logo that can't be printed, or that the event names and that
    isn't given.
    """
    template = TEMPLATES.get(event["template_version"])
    if template is None:
        raise UnknownTemplateError(
            f"template_version is {event['template_version']}, and this release prints"
            f" {', '.join(map(str, TEMPLATES))}: render it with a later one"
        )
    # A tagged document is thousands of parts that refer to each other, all in use until it is written: looking for
    # garbage among them is a sixth of the time of a long one.
    collects = gc.isenabled()
    gc.disable()
    try:
        return template(event, logo)
    finally:
        if collects:
            gc.enable()


#: By the version that an event names. Events stay for ever, so none is ever taken out, and what one prints never
#: changes by a byte: a change that would alter one is another version, with a folder of its own.
TEMPLATES: Mapping[int, Callable[[DocumentEvent, bytes | None], bytes]] = {1: template_1, 2: template_2}
