"""The types of synonyms in requests and responses; the OpenAPI document is made from them."""

from typing import Annotated, TypedDict

from msgspec import UNSET, Struct, UnsetType

from domain import records
from domain.synonyms import GROUP_WORDS_MAX, GROUPS_MAX, WORD_CHARS_MAX
from domain.texts import in_one_line
from gateway.http.openapi import limits

_Word = Annotated[str, limits(minLength=1, maxLength=WORD_CHARS_MAX)]


class SynonymGroup(Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """Words that mean the same; or, with `also_finds`, words whose question finds these as well."""

    words: Annotated[list[_Word], limits(minItems=1, maxItems=GROUP_WORDS_MAX)]
    also_finds: Annotated[list[_Word], limits(maxItems=GROUP_WORDS_MAX)] | UnsetType = UNSET


class SynonymsBody(Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """All synonyms of a seller."""

    groups: Annotated[list[SynonymGroup], limits(maxItems=GROUPS_MAX)]


class SynonymGroupView(TypedDict):
    """Words that mean the same; or, with `also_finds`, words whose question finds these as well."""

    words: list[str]
    also_finds: list[str]


class SynonymsView(TypedDict):
    """All synonyms of a seller; version 0 before the first change."""

    version: int
    groups: list[SynonymGroupView]


def as_records(body: SynonymsBody) -> list[records.SynonymGroup]:
    """The groups as they go into the journal."""
    return [
        {
            "words": _words(group.words),
            "also_finds": [] if group.also_finds is UNSET else _words(group.also_finds),
        }
        for group in body.groups
    ]


def shown(version: int, groups: list[records.SynonymGroup]) -> SynonymsView:
    """The synonyms in answers."""
    return {
        "version": version,
        "groups": [
            {
                "words": [word["text"] for word in group["words"]],
                "also_finds": [word["text"] for word in group["also_finds"]],
            }
            for group in groups
        ],
    }


def _words(texts: list[str]) -> list[records.SynonymWord]:
    return [{"text": in_one_line(text)} for text in texts]
