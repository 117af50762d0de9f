"""Texts from outside, made safe to mail: they stay in their line, hide nothing, and reorder nothing around them."""

import re
from unicodedata import category

#: Line ends and other control characters, halves of surrogate pairs, and what has no meaning.
_NOT_TEXT = frozenset({"Cc", "Cs", "Co", "Cn", "Zl", "Zp"})
#: Embeddings, overrides and isolates reorder what follows them. Marks and joiners stay: honest names need them.
_REORDERING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u206a\u206b\u206c\u206d\u206e\u206f")
#: Mail programs make links of these without being asked to.
_LINK_LIKE = re.compile(r"//|@|www\.|\w\.\w{2}", re.IGNORECASE)
_NAME_CHARS_MAX = 60


def one_line(text: str) -> str:
    """The text in one line, without characters that show nothing or reorder others."""
    if text.isascii() and text.isprintable():
        return " ".join(text.split())
    kept = "".join(" " if category(each) in _NOT_TEXT else each for each in text if each not in _REORDERING)
    return " ".join(kept.split())


def salutation_name(text: str) -> str:
    """The buyer's name for a salutation; empty for one that is no name.

    Anybody can place an order in the name "Free money at evil.example" with somebody else's address, and the shop's
    good reputation would deliver it.
    """
    name = one_line(text)
    return "" if len(name) > _NAME_CHARS_MAX or _LINK_LIKE.search(name) else name
