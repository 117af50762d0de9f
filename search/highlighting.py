"""Texts of products as HTML, with what matched marked. All else in them is escaped: sellers write them, not we."""

from collections.abc import Sequence
from html import escape
from itertools import pairwise

from rapidfuzz.distance import OSA

from domain.search import Word, grams, typos_max, words
from search.asked_words import AskedWord
from search.documents import end_terms, stem_terms
from search.queries import ALL

#: Characters of a snippet, about.
SNIPPET_CHARS = 160
#: How much of a text is looked at.
_TEXT_CHARS_MAX = 2_000


class Marker:
    """Marks what a question has matched; for one answer, whose texts have most of their words in common."""

    def __init__(self, asked: Sequence[AskedWord], match: str) -> None:
        #: Each word that is looked for, and whether typos in it are forgiven: in synonyms they are not.
        self._wanted = [
            *((each, match != ALL) for each in asked),
            *((each, False) for word in asked for synonym in word.synonyms for each in synonym),
        ]
        #: (language, whether it is in a name, word in lower case) → whether it matches.
        self._known: dict[tuple[str, bool, str], bool] = {}
        #: (language, whether it is a name, text) → its spans: a text is chosen by them, and then shown.
        self._spans: dict[tuple[str, bool, str], list[tuple[int, int]]] = {}

    def spans(self, text: str, language: str, *, is_name: bool) -> list[tuple[int, int]]:
        """Where the text has what was asked for, in its order. `language` is a `primary` one."""
        spans = self._spans.get((language, is_name, text))
        if spans is None:
            spans = self._spans[language, is_name, text] = self._find(text, language, is_name=is_name)
        return spans

    def _find(self, text: str, language: str, *, is_name: bool) -> list[tuple[int, int]]:
        found: list[tuple[int, int]] = []
        for word in words(text):
            if word.is_unspaced:
                found += self._runs(word)
                continue
            is_match = self._known.get((language, is_name, word.lower))
            if is_match is None:
                is_match = any(
                    _is_match(word, language, asked, forgives_typos=forgives, is_name=is_name)
                    for asked, forgives in self._wanted
                )
                self._known[language, is_name, word.lower] = is_match
            if is_match:
                found.append((word.start, word.end))
        return found

    def snippet(self, text: str, language: str) -> str:
        """The part of the text around its first match, as `rendered`; its beginning without one."""
        flat = " ".join(text[:_TEXT_CHARS_MAX].split())
        spans = self.spans(flat, language, is_name=False)
        start = max(0, spans[0][0] - SNIPPET_CHARS // 3) if spans else 0
        # At the beginning of a word.
        start = flat.rfind(" ", 0, start) + 1 if start else 0
        end = min(len(flat), start + SNIPPET_CHARS)
        if end < len(flat):
            end = max(flat.rfind(" ", start, end), -1)
            end = end if end > start else min(len(flat), start + SNIPPET_CHARS)
        inside = [(a - start, b - start) for a, b in spans if a >= start and b <= end]
        shown = rendered(flat[start:end], inside)
        return f"{'… ' if start else ''}{shown}{' …' if end < len(flat) else ''}"

    def _runs(self, word: Word) -> list[tuple[int, int]]:
        """Where a run without spaces has what is asked for; none where folding has changed its length."""
        if len(word.folded) != word.end - word.start:
            return []
        covered = [False] * len(word.folded)
        for each, _ in self._wanted:
            for gram in grams(each.word.folded) if each.word.is_unspaced else ():
                at = word.folded.find(gram)
                while at >= 0:
                    covered[at : at + len(gram)] = [True] * len(gram)
                    at = word.folded.find(gram, at + 1)
        edges = [at for at, (left, right) in enumerate(pairwise([False, *covered, False])) if left != right]
        return [(word.start + first, word.start + last) for first, last in zip(edges[::2], edges[1::2], strict=True)]


def _is_match(word: Word, language: str, asked: AskedWord, *, forgives_typos: bool, is_name: bool) -> bool:
    wanted = asked.word.folded
    if asked.word.is_unspaced:
        return False
    if word.folded == wanted or (asked.is_prefix and word.folded.startswith(wanted)):
        return True
    for stem in stem_terms([language], word.lower) if asked.stems else ():
        if stem in asked.stems or (is_name and any(end in asked.stems for end in end_terms(stem))):
            return True
    typos = typos_max(wanted) if forgives_typos else 0
    if not typos:
        return False
    compared = [word.folded]
    if asked.is_prefix:
        compared += [word.folded[: len(wanted) + more] for more in range(-typos, typos + 1)]
    return any(OSA.distance(each, wanted, score_cutoff=typos) <= typos for each in compared)


def rendered(text: str, spans: Sequence[tuple[int, int]]) -> str:
    """The text as HTML: all of it escaped, with `<mark>` around the spans."""
    parts, at = [], 0
    for start, end in spans:
        parts += [escape(text[at:start]), "<mark>", escape(text[start:end]), "</mark>"]
        at = end
    return "".join([*parts, escape(text[at:])])
