"""What counts as a word, as a typo, and as a price."""

import pytest

from domain import search
from domain.search import INDEXED_PRICE_MAX, fold, grams, indexed_price, price_text, typos_max, words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Öl-Tassen, L'océan", ["ol", "tassen", "l", "ocean"]),
        ("ＡＢＣ ﬁn STRASSE straße", ["abc", "fin", "strasse", "strasse"]),
        ("mug_x 0,5 l", ["mug", "x", "0", "5", "l"]),
        ("Køkken Łódź Ærø", ["kokken", "lodz", "aero"]),
        ("İstanbul ılık", ["istanbul", "ilik"]),
        ("東京タワーmug", ["東京タワー", "mug"]),
        ("", []),
        ("<>&\"' \u0301 \x00", []),
    ],
)
def test_a_text_is_cut_into_words_without_case_and_accents(text: str, expected: list[str]) -> None:
    assert [word.folded for word in words(text)] == expected
    for word in words(text):
        assert fold(text[word.start : word.end]) == word.folded


def test_a_run_without_spaces_is_compared_by_pairs() -> None:
    assert [word.is_unspaced for word in words("東京 mug ผ้า")] == [True, False, True]
    assert grams("東京都") == ["東京", "京都"]
    assert grams("京") == ["京"]


@pytest.mark.parametrize(
    ("word", "expected"), [("mug", 0), ("lamp", 1), ("blanket", 1), ("notebook", 2), ("x1000abc", 0)]
)
def test_longer_words_forgive_more(word: str, expected: int) -> None:
    assert typos_max(word) == expected


def test_prices_keep_four_decimals_and_what_is_beyond_counts_as_the_greatest() -> None:
    assert [price_text(indexed_price(text)) for text in ("14.90", "5", "0.0005", "0.00009", "1200")] == [
        "14.90", "5", "0.0005", "0", "1200",
    ]  # fmt: skip
    assert indexed_price("999999999999") == INDEXED_PRICE_MAX


def test_long_texts_are_folded_and_not_remembered() -> None:
    """Folded, each character of some is 18: questions would fill the memory."""
    before = search._remembered_fold.cache_info().currsize
    assert len(fold("\ufdfa" * 200)) == 3_600
    assert search._remembered_fold.cache_info().currsize == before
