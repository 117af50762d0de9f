"""Stems and stop words of the languages that products are written in."""

from functools import cache, lru_cache

from tantivy import Filter, TextAnalyzer, TextAnalyzerBuilder, Tokenizer

#: By the first part of a BCP 47 tag: the stemmer's name for the language. Others are compared word by word.
STEMMERS = {
    "ar": "arabic",
    "da": "danish",
    "de": "german",
    "el": "greek",
    "en": "english",
    "es": "spanish",
    "fi": "finnish",
    "fr": "french",
    "hu": "hungarian",
    "it": "italian",
    "nl": "dutch",
    "no": "norwegian",
    "nb": "norwegian",
    "nn": "norwegian",
    "pt": "portuguese",
    "ro": "romanian",
    "ru": "russian",
    "sv": "swedish",
    "ta": "tamil",
    "tr": "turkish",
}
#: Languages whose frequent words the library knows.
_WITH_STOP_WORDS = frozenset(
    "danish dutch english finnish french german hungarian italian norwegian portuguese russian spanish swedish".split()
)
#: Languages that write compounds as one word, with what it is at its end: a Gartenstuhl is a Stuhl.
_COMPOUNDING = frozenset(("da", "de", "nb", "nl", "nn", "no", "sv"))
#: Letters of what a compound ends with, and of what stands before it: shorter ends are those of too many words.
_END_CHARS_MIN, _END_CHARS_MAX = 4, 15
_BEFORE_CHARS_MIN = 3
_STEMS_REMEMBERED = 100_000


def primary(language: str) -> str:
    """The language of a BCP 47 tag: `pt` of `pt-BR`."""
    return language.partition("-")[0].lower()


@lru_cache(_STEMS_REMEMBERED)
def stem(language: str, word: str) -> str | None:
    """The stem of a word in lower case; None in a language without a stemmer. `language` is a `primary` one."""
    name = STEMMERS.get(language)
    if name is None:
        return None
    [found] = _stemmer(name).analyze(word) or [word]
    return found


def may_end_compound(language: str, found: str) -> bool:
    """Whether a word of this stem may be the end of another word."""
    return language in _COMPOUNDING and _END_CHARS_MIN <= len(found) <= _END_CHARS_MAX and found.isalpha()


def compound_ends(language: str, found: str) -> list[str]:
    """The stems of all that a word of this stem may end with: `stuhl`, and what is no word, of `gartenstuhl`."""
    if language not in _COMPOUNDING or not found.isalpha():
        return []
    first = max(_BEFORE_CHARS_MIN, len(found) - _END_CHARS_MAX)
    return [found[at:] for at in range(first, len(found) - _END_CHARS_MIN + 1)]


@lru_cache(_STEMS_REMEMBERED)
def is_stop_word(language: str, word: str) -> bool:
    """Whether the word, in lower case, says nothing by itself, such as `the`."""
    name = STEMMERS.get(language)
    return name in _WITH_STOP_WORDS and not _stopper(name).analyze(word)


@cache
def _stemmer(name: str) -> TextAnalyzer:
    return TextAnalyzerBuilder(Tokenizer.raw()).filter(Filter.stemmer(name)).build()


@cache
def _stopper(name: str) -> TextAnalyzer:
    return TextAnalyzerBuilder(Tokenizer.raw()).filter(Filter.stopword(name)).build()
