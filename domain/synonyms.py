"""A seller's synonyms: words that mean the same to its buyers, in groups."""

from collections.abc import Iterator, Sequence

from domain.records import SynonymGroup, SynonymWord
from domain.refusals import INVALID_FIELD, Refusal
from domain.search import words
from domain.texts import check_text, first_refusal

#: Of all groups as JSON, and so of their event: each search worker has them in memory.
SYNONYMS_BYTES_MAX = 64 * 1024
GROUPS_MAX = 1_000
#: Of either list of a group: a question for one of them is a question for all.
GROUP_WORDS_MAX = 20
WORD_CHARS_MAX = 50
#: What is given as one word may be several, such as `wash basin`.
WORD_PARTS_MAX = 4


def check(groups: Sequence[SynonymGroup]) -> Refusal | None:
    """The first rule that the groups break."""
    return first_refusal(_broken(groups))


def parts_of(text: str) -> tuple[str, ...]:
    """What two texts have in common that are the same word: their parts without case and accents."""
    return tuple(word.folded for word in words(text))


def _broken(groups: Sequence[SynonymGroup]) -> Iterator[Refusal | None]:
    if len(groups) > GROUPS_MAX:
        yield _invalid("groups", f"must be at most {GROUPS_MAX}, not {len(groups)}")
    #: Parts → where they are given.
    asked: dict[tuple[str, ...], str] = {}
    for index, group in enumerate(groups):
        path = f"groups[{index}]"
        least = 1 if group["also_finds"] else 2
        yield _check_count(f"{path}.words", group["words"], least)
        yield _check_count(f"{path}.also_finds", group["also_finds"], 0)
        for number, word in enumerate(group["words"]):
            where = f"{path}.words[{number}]"
            yield _check_word(where, word)
            there = asked.setdefault(parts_of(word["text"]), where)
            if there != where:
                yield _invalid(where, f"is {there} already: a word may be in one `words`; put all that it finds there")
        found: set[tuple[str, ...]] = {parts_of(word["text"]) for word in group["words"]}
        for number, word in enumerate(group["also_finds"]):
            where = f"{path}.also_finds[{number}]"
            yield _check_word(where, word)
            parts = parts_of(word["text"])
            if parts in found:
                yield _invalid(where, "is in the group already: name each word once")
            found.add(parts)


def _check_word(where: str, word: SynonymWord) -> Refusal | None:
    text = word["text"]
    refusal = check_text(where, text, WORD_CHARS_MAX, required=True)
    if refusal is None and not 1 <= len(parts_of(text)) <= WORD_PARTS_MAX:
        return _invalid(where, f"must be 1 to {WORD_PARTS_MAX} words of letters and digits, such as wash basin")
    return refusal


def _check_count(field: str, items: Sequence[object], at_least: int) -> Refusal | None:
    if at_least <= len(items) <= GROUP_WORDS_MAX:
        return None
    more = "; a group of one word needs `also_finds`" if at_least > len(items) > 0 else ""
    return _invalid(field, f"must be {at_least} to {GROUP_WORDS_MAX}, not {len(items)}{more}")


def _invalid(field: str, detail: str) -> Refusal:
    return Refusal(INVALID_FIELD, field, detail)
