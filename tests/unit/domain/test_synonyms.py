"""What a seller's synonyms must be."""

from typing import Any

import pytest

from domain.records import SynonymGroup
from domain.synonyms import GROUP_WORDS_MAX, GROUPS_MAX, WORD_CHARS_MAX, check


def group(*words: str, also_finds: tuple[str, ...] = ()) -> SynonymGroup:
    return {"words": [{"text": each} for each in words], "also_finds": [{"text": each} for each in also_finds]}


MANY = tuple(f"word {n}" for n in range(GROUP_WORDS_MAX + 1))


@pytest.mark.parametrize(
    "groups",
    [
        [],
        [group("sofa", "couch", "settee")],
        [group("tv", also_finds=("television",)), group("telly", "television")],
        [group("wash basin", "sink"), group("wash", "laundry")],
        [group("ソファ", "長椅子")],
        [group(*MANY[:-1], also_finds=tuple(f"more {n}" for n in range(GROUP_WORDS_MAX)))],
        [group(f"a{n}", f"b{n}") for n in range(GROUPS_MAX)],
    ],
)
def test_groups_that_keep_the_rules(groups: list[SynonymGroup]) -> None:
    assert check(groups) is None


@pytest.mark.parametrize(
    ("groups", "field", "rule"),
    [
        ([group(f"a{n}", f"b{n}") for n in range(GROUPS_MAX + 1)], "groups", "at most 1000, not 1001"),
        ([group("sofa")], "groups[0].words", "a group of one word needs `also_finds`"),
        ([group(also_finds=("sofa",))], "groups[0].words", "1 to 20, not 0"),
        ([group(*MANY)], "groups[0].words", "2 to 20, not 21"),
        ([group("x", also_finds=MANY)], "groups[0].also_finds", "0 to 20, not 21"),
        ([group("sofa", "x" * (WORD_CHARS_MAX + 1))], "groups[0].words[1]", "at most 50 characters"),
        ([group("sofa", "")], "groups[0].words[1]", "must not be empty"),
        ([group("sofa", "?!")], "groups[0].words[1]", "must be 1 to 4 words"),
        ([group("sofa", "a b c d e")], "groups[0].words[1]", "must be 1 to 4 words"),
        ([group("sofa", also_finds=("a\x00b",))], "groups[0].also_finds[0]", "no control characters"),
        ([group("sofa", "couch"), group("chair", "SOFA")], "groups[1].words[1]", "is groups[0].words[0] already"),
        ([group("canape", "Canapé")], "groups[0].words[1]", "is groups[0].words[0] already"),
        ([group("tv", also_finds=("Tv",))], "groups[0].also_finds[0]", "is in the group already"),
        ([group("tv", also_finds=("a", "a"))], "groups[0].also_finds[1]", "is in the group already"),
    ],
)
def test_a_rule_that_is_broken_is_named_with_its_field(groups: Any, field: str, rule: str) -> None:
    refusal = check(groups)
    assert refusal is not None
    assert refusal.field == field
    assert rule in refusal.detail
