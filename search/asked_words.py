"""The words of a question, and of a synonym, as they are compared with the words of the index."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from domain.search import QUESTION_CHARS_MAX, WORDS_MAX, Word, words
from search.documents import stem_terms
from search.stems import is_stop_word

_PREFIX_CHARS_MIN = 2


@dataclass(frozen=True, slots=True)
class AskedWord:
    """A word of a question."""

    word: Word
    #: Whether it may be the beginning of a word.
    is_prefix: bool
    #: Whether it must be found.
    is_required: bool
    #: The terms of its stems.
    stems: tuple[str, ...]
    #: Each in its words: what is found in its place. A synonym's own words have none.
    synonyms: tuple[tuple["AskedWord", ...], ...] = ()


def asked_words(text: str, languages: Sequence[str], *, is_synonym: bool = False) -> tuple[AskedWord, ...]:
    """The words of a text, compared in these languages. A buyer may still be writing the last; a synonym is whole."""
    found = list(_counted_words(text))
    # A word is finished where something follows it.
    is_open = not is_synonym and bool(found) and found[-1].end == len(text)
    asked = [
        AskedWord(
            word,
            is_open and word is found[-1] and not word.is_unspaced and len(word.folded) >= _PREFIX_CHARS_MIN,
            word.is_unspaced or not _is_small(word, languages),
            () if word.is_unspaced else tuple(dict.fromkeys(stem_terms(languages, word.lower))),
        )
        for word in found
    ]
    if not any(each.is_required for each in asked):
        asked = [replace(each, is_required=True) for each in asked]
    return tuple(asked)


def _counted_words(text: str) -> Iterator[Word]:
    """The words that count. Folded, some characters are 18, and each costs time and memory to be compared."""
    chars_left = QUESTION_CHARS_MAX
    for word in islice(words(text), WORDS_MAX):
        if chars_left <= 0:
            return
        yield word._replace(folded=word.folded[:chars_left])
        chars_left -= len(word.folded)


def _is_small(word: Word, languages: Sequence[str]) -> bool:
    is_letter = len(word.folded) == 1 and not word.folded.isdigit()
    return is_letter or any(is_stop_word(language, word.lower) for language in languages)
