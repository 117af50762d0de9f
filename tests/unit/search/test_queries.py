"""What matches, in which order, and what of it is shown: over a few products made for it."""

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import domain.review
from domain.search import QUESTION_CHARS_MAX, SearchQuestion, indexed_price
from search.app import Remembered, remembered_answers
from search.documents import Article, IndexedProduct, Level, Rating
from search.queries import readings
from search.searching import Searching, SeveralCurrenciesError, Versions
from tests.unit.search.conftest import Ask, asking, index_of, indexed

HOSTILE = '<script>alert("1")</script> & <b onmouseover=x>lamp</b>'


def product(product_id: str, name: str, language: str = "en", **changes: Any) -> IndexedProduct:
    body = {
        "texts": [{"language": language, "name": name, "description": changes.pop("description", "")}],
        "currency": "EUR",
        "vat_category": "S",
        "vat_rate": "20.00",
        "variants": [{"sku": product_id.upper(), "unit_price": changes.pop("price", "10.00")}],
    }
    at = changes.pop("changed_at", 0)
    return indexed(product_id, body | changes, changed_at=at)


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Ask:
    stock = [
        Article("demo", "KETTLE-2", Level(3, 1), Rating(2, 9, 1)),
        Article("demo", "JP-1", Level(1, 1)),
        Article("demo", "OIL-1", Level(0, 2), Rating(3, 14, 1)),
    ]
    products = [
        product("kettle-1", "Kettle", price="30.00", changed_at=1_000_000, brand="Aqua", categories=["kitchen/pots"]),
        product("kettle-2", "Kettle", price="20.00", changed_at=3_000_000, brand="Boil", categories=["kitchen"]),
        product("stand", "Stand", description="Holds a kettle.", price="9.99", changed_at=2_000_000),
        product("oil-1", "Olivenöl aus Kreta", "de", price="12.50"),
        product("jp-1", "青い東京タワーの置物", "ja", description="東京の思い出に。"),
        product("kr-1", "푸른 도자기 찻잔", "ko"),
        product("th-1", "ผ้าขนหนูสีฟ้า", "th"),
        product("ru-1", "Синяя керамическая чашка", "ru"),
        product("hostile", HOSTILE, description=HOSTILE * 20),
        product("x-100", "Cable X100"),
        product("x-101", "Cable X101"),
        msgspec.structs.replace(product("theirs", "Kettle"), seller_id="other"),
    ]  # fmt: skip
    return asking(index_of(tmp_path_factory.mktemp("index"), products, stock))


def found(ask: Ask, text: str = "", **more: Any) -> list[str]:
    return [hit["product_id"] for hit in ask(text, **more)["hits"]]


def test_a_name_counts_more_than_a_description_and_stock_decides_among_equals(ask: Ask) -> None:
    assert found(ask, "kettle") == ["kettle-2", "kettle-1", "stand"]


def test_filters_narrow_and_their_facets_do_not_count_themselves(ask: Ask) -> None:
    answer = ask("kettle", brand="Aqua")
    assert [hit["product_id"] for hit in answer["hits"]] == ["kettle-1"]
    assert answer["facets"]["brands"] == [{"value": "Aqua", "count": 1}, {"value": "Boil", "count": 1}]
    assert answer["facets"]["categories"] == [{"value": "kitchen", "count": 1}, {"value": "kitchen/pots", "count": 1}]
    assert found(ask, "kettle", category="kitchen") == ["kettle-2", "kettle-1"]
    assert found(ask, "kettle", category="kitchen/pots") == ["kettle-1"]
    assert found(ask, "kettle", in_stock=True) == ["kettle-2"]
    assert found(ask, "kettle", rating_min=450) == ["kettle-2"]
    assert found(ask, "kettle", rating_min=451) == []


def test_an_average_is_rounded_as_everywhere(ask: Ask) -> None:
    """The catalogue and the reviews say 4.67 of 14 stars in three reviews."""
    [hit] = ask("olivenöl", rating_min=467)["hits"]
    assert hit["rating"] == {"count": 3, "average": domain.review.Rating((0, 0, 0, 1, 2)).average}
    assert found(ask, "olivenöl", rating_min=468) == []


def test_prices_are_bounded_on_both_sides_inclusively(ask: Ask) -> None:
    low, high = indexed_price("9.99"), indexed_price("20")
    assert found(ask, "kettle", price_min=low, price_max=high) == ["kettle-2", "stand"]
    assert found(ask, "kettle", price_min=high + 1) == ["kettle-1"]
    bands = ask("kettle", price_max=high)["facets"]["prices"]
    assert bands == [
        {"currency": "EUR", "price_min": "5", "price_max": "10", "count": 1},
        {"currency": "EUR", "price_min": "20", "price_max": "50", "count": 2},
    ]


@pytest.fixture(scope="module")
def ask_many(tmp_path_factory: pytest.TempPathFactory) -> Ask:
    """Asks a seller that has prices in three currencies."""
    products = [
        product("eur-1", "Kettle", price="30.00"),
        product("eur-2", "Kettle", price="20.00"),
        product("usd-1", "Kettle", price="25.00", currency="USD"),
        product("jpy-1", "Lamp", price="25", currency="JPY"),
        msgspec.structs.replace(product("theirs", "Kettle", currency="CHF"), seller_id="other"),
    ]
    return asking(index_of(tmp_path_factory.mktemp("index"), products))


PRICE_QUESTIONS: list[dict[str, Any]] = [
    {"price_min": 1}, {"price_max": indexed_price("27")}, {"sort": "price"}, {"sort": "-price"},
]  # fmt: skip


@pytest.mark.parametrize("question", PRICE_QUESTIONS)
def test_prices_of_several_currencies_are_not_compared(ask_many: Ask, question: dict[str, Any]) -> None:
    """Whatever the question finds: that a seller has further products must not decide it."""
    for text in ("kettle", "lamp", "nothing"):
        with pytest.raises(SeveralCurrenciesError, match="EUR, JPY, USD"):
            ask_many(text, **question)
    assert set(found(ask_many, "kettle", currency="EUR", **question)) <= {"eur-1", "eur-2"}
    assert found(ask_many, "kettle", seller_id="other", **question) == ["theirs"]


def test_a_named_currency_is_a_filter(ask_many: Ask) -> None:
    high = indexed_price("27")
    assert found(ask_many, "kettle", currency="EUR", price_max=high) == ["eur-2"]
    assert found(ask_many, "kettle", currency="USD", price_max=high) == ["usd-1"]
    assert found(ask_many, "kettle", currency="EUR", sort="price") == ["eur-2", "eur-1"]
    assert found(ask_many, currency="JPY") == ["jpy-1"]
    assert found(ask_many, "kettle", currency="CHF") == []
    assert len(found(ask_many, "kettle")) == 3


def test_facets_of_prices_are_of_one_currency_each(ask_many: Ask) -> None:
    """The facet of currencies ignores its own filter, as each does."""
    counts = [{"value": "EUR", "count": 2}, {"value": "USD", "count": 1}]
    euros = {"currency": "EUR", "price_min": "20", "price_max": "50", "count": 2}
    dollars = {"currency": "USD", "price_min": "20", "price_max": "50", "count": 1}
    facets = ask_many("kettle")["facets"]
    assert (facets["currencies"], facets["prices"]) == (counts, [euros, dollars])
    facets = ask_many("kettle", currency="USD", price_max=indexed_price("1"))["facets"]
    assert (facets["currencies"], facets["prices"]) == ([], [dollars])
    facets = ask_many("kettle", currency="EUR")["facets"]
    assert (facets["currencies"], facets["prices"]) == (counts, [euros])


def test_a_seller_with_one_currency_need_not_name_it(ask: Ask) -> None:
    high = indexed_price("20")
    named = ask("kettle", price_max=high, currency="EUR", sort="price")
    assert named == ask("kettle", price_max=high, sort="price")
    assert named["facets"]["currencies"] == [{"value": "EUR", "count": 2}]
    other = ask("kettle", currency="USD")
    assert (other["total"], other["facets"]["currencies"]) == (0, [{"value": "EUR", "count": 3}])
    for currency in ("", "EUR", "USD"):
        assert ask("nothing of ours", currency=currency)["facets"]["currencies"] == []


def test_what_is_found_is_sorted_as_asked(ask: Ask) -> None:
    assert found(ask, "kettle", sort="price") == ["stand", "kettle-2", "kettle-1"]
    assert found(ask, "kettle", sort="-price") == ["kettle-1", "kettle-2", "stand"]
    assert found(ask, "kettle", sort="newest") == ["kettle-2", "stand", "kettle-1"]
    assert found(ask, limit=1) == ["kettle-2"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("olivenöl", "oil-1"), ("OLIVENOL", "oil-1"), ("東京タワー", "jp-1"), ("置物", "jp-1"), ("京", "jp-1"),
        ("찻잔", "kr-1"), ("ผ้าขนหนู", "th-1"), ("чашки", "ru-1"), ("Синий", "ru-1"), ("kreta öl aus", "oil-1"),
    ],
)  # fmt: skip
def test_each_script_is_searched_as_it_is_written(ask: Ask, text: str, expected: str) -> None:
    assert found(ask, text)[:1] == [expected]


def test_runs_without_spaces_match_in_all_their_pairs(ask: Ask) -> None:
    assert ask("東京大学")["match"] != "all"
    assert ask("大学")["total"] == 0


def test_typos_are_forgiven_in_words_and_not_in_numbers(ask: Ask) -> None:
    answer = ask("ketle")
    assert (answer["match"], answer["total"]) == ("similar", 3)
    assert found(ask, "X100") == ["x-100"]
    assert ask("X102")["total"] == 0
    # A SKU is exact.
    assert found(ask, "x-100") == ["x-100"]


@pytest.mark.parametrize("text", ["ketle", "kettel", "kottle", "kettles", "kettel x"])
def test_a_word_that_is_found_in_spite_of_a_typo_is_marked(ask: Ask, text: str) -> None:
    """A letter too few or too many, another one, and two neighbours swapped: each is one typo."""
    hits = ask(text)["hits"]
    assert hits
    assert all("<mark>kettle</mark>" in f"{hit['name_html']} {hit['snippet_html']}".lower() for hit in hits)


def test_typos_are_not_looked_for_where_the_words_are_there(ask: Ask) -> None:
    answer = ask("kettle", brand="Nobody")
    assert (answer["match"], answer["total"]) == ("all", 0)


COMPOUNDS = [
    product("chair-1", "Gartenstühle aus Teak", "de", description="Zum Sonderpreis."),
    product("chair-2", "Stuhl", "de"),
    product("chair-3", "Tuinstoel", "nl"),
    product("chair-4", "Trädgårdsstol", "sv"),
    product("bowl-1", "Obstschale", "de", brand="Porzellanwerk"),
    product("rice-1", "Reis", "de"),
    product("rice-2", "Zum Sonderpreis", "de"),
    product("en-1", "Armchair"),
]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Stuhl", ["chair-2", "chair-1"]), ("stühle", ["chair-2", "chair-1"]), ("stoel", ["chair-3"]),
        ("stolar", ["chair-4"]), ("Schalen", ["bowl-1"]), ("Werk", ["bowl-1"]), ("teak stuhl", ["chair-1"]),
        # Three letters are the end of too many words, and English words of others by chance.
        ("hal", []), ("chair", []), ("schal", ["bowl-1"]),
        # Below what is the word itself; and in names alone, as in a description it would be chance.
        ("Reis", ["rice-1", "rice-2"]),
    ],
)  # fmt: skip
def test_a_compound_is_found_by_its_end(ask_compounds: Ask, text: str, expected: list[str]) -> None:
    answer = ask_compounds(f"{text} ")
    assert ([hit["product_id"] for hit in answer["hits"]] if answer["match"] == "all" else []) == expected


def test_a_compound_that_is_found_is_marked(ask_compounds: Ask) -> None:
    assert ask_compounds("stuhl")["hits"][1]["name_html"] == "<mark>Gartenstühle</mark> aus Teak"
    [chair] = [hit for hit in ask_compounds("teak reis")["hits"] if hit["product_id"] == "chair-1"]
    assert chair["snippet_html"] == "Zum Sonderpreis."


@pytest.fixture(scope="module")
def ask_compounds(tmp_path_factory: pytest.TempPathFactory) -> Ask:
    return asking(index_of(tmp_path_factory.mktemp("index"), COMPOUNDS))


def test_the_last_word_may_be_unfinished_unless_something_follows_it(ask: Ask) -> None:
    assert found(ask, "kett") == ["kettle-2", "kettle-1", "stand"]
    assert ask("kett ")["match"] != "all"


def test_a_text_is_in_the_buyers_language_or_the_one_that_matched(ask_goods: Ask) -> None:
    assert ask_goods("mug", language="fr")["hits"][0]["language"] == "fr"
    assert ask_goods("tasse bleu")["hits"][0]["name"].startswith("Tasse bleu")


def test_hostile_texts_are_escaped_in_what_is_html(ask: Ask) -> None:
    [hit] = ask("lamp")["hits"]
    for html in (hit["name_html"], hit["snippet_html"]):
        assert "<mark>lamp</mark>" in html
        assert re.findall("<[^>]*>", html.replace("<mark>", "").replace("</mark>", "")) == []
    assert hit["name"] == HOSTILE
    assert len(hit["snippet_html"]) < 1_000


@pytest.mark.parametrize(
    "text",
    ["a" * QUESTION_CHARS_MAX, '"', "AND OR NOT", "name:kettle", "kettle*", "-kettle", "[1 TO 2]", "kettle^1000",
     "/.*/", "\\", "\x00", "🫖", "e\u0301" * 90, "../../etc/passwd", "'; DROP TABLE products; --", "\u202ekettle"],
)  # fmt: skip
def test_no_text_is_an_operator_or_fails(ask: Ask, text: str) -> None:
    answer = ask(text[:QUESTION_CHARS_MAX])
    assert {hit["product_id"] for hit in answer["hits"]} <= {
        "kettle-1", "kettle-2", "stand", "oil-1", "jp-1", "kr-1", "th-1", "ru-1", "hostile", "x-100", "x-101",
    }  # fmt: skip


@given(st.text(max_size=QUESTION_CHARS_MAX))
@example("\ufdfa" * QUESTION_CHARS_MAX)
@example("\ufdfa " * (QUESTION_CHARS_MAX // 2))
def test_no_question_is_longer_folded_than_it_may_be(text: str) -> None:
    """A character that is 18 when folded must not make a word that takes seconds and gigabytes to compare."""
    for asked in readings(SearchQuestion("demo", text), ["ar", "en"]):
        assert sum(len(each.word.folded) for each in asked.words) <= QUESTION_CHARS_MAX
        assert all(each.word.folded for each in asked.words)


def test_nothing_is_remembered_of_sellers_that_there_are_not(tmp_path: Path) -> None:
    """Anybody may ask for any."""
    searching = Searching(index_of(tmp_path, [product("kettle-1", "Kettle")]), Versions())
    for seller_id in ("demo", *(f"nobody-{number}" for number in range(20))):
        searching.answer(SearchQuestion(seller_id, "kettle"))
    assert list(searching._sellers) == ["demo"]


def test_questions_take_no_more_memory_than_answers_may() -> None:
    """Those that find nothing are longer than their answers."""
    remembered = remembered_answers()
    for number in range(3_000):
        question = b"%16000d" % number
        remembered[0, question] = Remembered(b"{}", len(question))
    assert 0 < sum(len(question) for _, question in remembered) <= 32 * 1024 * 1024


@given(st.text(max_size=QUESTION_CHARS_MAX), st.sampled_from(["", "en", "de", "ja", "tr"]))
def test_whatever_is_asked_is_answered_with_safe_html(ask: Ask, text: str, language: str) -> None:
    for hit in ask(text, language=language)["hits"]:
        for html in (hit["name_html"], hit["snippet_html"]):
            assert re.search("<(?!/?mark>)", html) is None


def test_operators_find_what_their_words_find(ask: Ask) -> None:
    assert found(ask, '"kettle"') == found(ask, "+kettle") == found(ask, "(kettle)") == found(ask, "kettle")


def test_an_index_is_the_same_whichever_way_its_documents_are_stored(tmp_path: Path) -> None:
    """In one segment, or in several with deleted documents between them."""
    products = [product(f"p-{n}", f"{('Oak', 'Ash')[n % 2]} table {n}", price=f"{n % 5}.00") for n in range(30)]
    once = asking(index_of(tmp_path / "one", products))
    index = index_of(tmp_path / "many", products[:10])
    for each in [*products[20:], *products[5:20], *products[8:12]]:
        index.put_product(each, {})
        index.commit()
    many = asking(index)
    for question in ({"text": "oak"}, {"text": "tabel"}, {"text": "ash 3"}, {"sort": "price"}, {"text": "table"}):
        assert once(limit=50, **question) == many(limit=50, **question)
    index.close()
