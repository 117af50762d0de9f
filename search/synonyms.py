"""A seller's synonyms, looked up by the words of a question."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from domain.records import SynonymGroup
from domain.search import words
from search.asked_words import AskedWord, asked_words
from search.documents import stem_terms

#: Synonyms of all words of a question: each is searched for. Those of later words have no room.
SYNONYMS_MAX = 100


@dataclass(frozen=True, slots=True, eq=False)
class _Given:
    """What the seller has given synonyms for, a word or some in a row, and these."""

    #: Of each word the terms by which it is known: itself and its stems.
    terms: tuple[frozenset[str], ...]
    synonyms: tuple[str, ...]


class Synonyms:
    """A seller's synonyms, compared in some languages as words are: without case and accents, and by their stems."""

    def __init__(self, groups: Sequence[SynonymGroup], languages: Sequence[str]) -> None:
        self._languages = languages
        #: By each term of its first word.
        self._given: dict[str, list[_Given]] = {}
        for group in groups:
            texts = [word["text"] for word in group["words"]]
            also = tuple(word["text"] for word in group["also_finds"])
            for text in texts:
                self._add(text, also or tuple(each for each in texts if each != text))

    def given_to(self, asked: tuple[AskedWord, ...]) -> tuple[AskedWord, ...]:
        """The words of a question with their synonyms. Those of words in a row are given to each of the words.

        That finds the same as one word in their place would: a document with a synonym has each of them.
        """
        #: For each word its synonyms, by their text.
        found: list[dict[str, tuple[AskedWord, ...]]] = [{} for _ in asked]
        left = SYNONYMS_MAX
        for at, first in enumerate(asked):
            for given in dict.fromkeys(each for term in _terms(first) for each in self._given.get(term, ())):
                run = range(at, at + len(given.terms))
                if run.stop > len(asked) or any(
                    terms.isdisjoint(_terms(asked[place])) for place, terms in zip(run, given.terms, strict=True)
                ):
                    continue
                if left < len(run) * len(given.synonyms):
                    continue
                left -= len(run) * len(given.synonyms)
                synonyms = {text: asked_words(text, self._languages, is_synonym=True) for text in given.synonyms}
                for place in run:
                    found[place] |= synonyms
        return tuple(
            replace(word, synonyms=tuple(synonyms.values())) if synonyms else word
            for word, synonyms in zip(asked, found, strict=True)
        )

    def _add(self, text: str, synonyms: tuple[str, ...]) -> None:
        terms = tuple(
            frozenset((word.folded, *(() if word.is_unspaced else stem_terms(self._languages, word.lower))))
            for word in words(text)
        )
        given = _Given(terms, synonyms)
        for term in terms[0]:
            self._given.setdefault(term, []).append(given)


def _terms(asked: AskedWord) -> tuple[str, ...]:
    return asked.word.folded, *asked.stems
