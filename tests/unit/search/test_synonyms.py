"""Which products a seller's synonyms find, in which order, and what of them is marked."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from domain.records import SynonymGroup
from search.asked_words import asked_words
from search.documents import GivenSynonyms, IndexedProduct
from search.synonyms import SYNONYMS_MAX, Synonyms
from tests.unit.search.conftest import Ask, asking, index_of, indexed


def product(product_id: str, name: str, language: str = "en", **changes: Any) -> IndexedProduct:
    body = {
        "texts": [{"language": language, "name": name}],
        "currency": "EUR",
        "vat_category": "S",
        "vat_rate": "20.00",
        "variants": [{"sku": changes.pop("sku", product_id.upper()), "unit_price": "10.00"}],
    }
    return indexed(product_id, body | changes)


def group(*words: str, also_finds: tuple[str, ...] = ()) -> SynonymGroup:
    return {"words": [{"text": each} for each in words], "also_finds": [{"text": each} for each in also_finds]}


PRODUCTS = [
    product("p-1", "Velvet sofa"),
    product("p-2", "Velvet couch"),
    product("p-3", "Corner settee"),
    product("p-4", "Television"),
    product("p-5", "TV stand"),
    product("p-6", "Oak wash basin"),
    product("p-7", "Oak sink"),
    product("p-8", "Canapé en velours", "fr"),
    product("p-9", "Velvet cushion", sku="SOFA"),
    product("p-10", "ソファ", "ja"),
    product("p-11", "Wash bag"),
    product("p-12", "Lightbox"),
    product("p-13", "Velvet light for the night"),
    product("p-14", "Velvet night"),
    product("p-15", "Stool"),
    product("p-16", "Bench"),
    msgspec.structs.replace(product("theirs", "Velvet couch"), seller_id="other"),
]
GROUPS = [
    group("sofa", "couch", "settee", "Canapé", "ソファ"),
    group("tv", also_finds=("television",)),
    group("wash basin", "sink"),
    group("lamp", "light"),
    group("perch", also_finds=("stool", "bench")),
]


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Ask:
    index = index_of(tmp_path_factory.mktemp("index"), PRODUCTS)
    index.put("synonyms", [GivenSynonyms("demo", 1, GROUPS)])
    index.commit()
    return asking(index)


def found(ask: Ask, text: str, **more: Any) -> list[str]:
    return [hit["product_id"] for hit in ask(text, **more)["hits"]]


SEATS = {"p-1", "p-2", "p-3", "p-8", "p-10"}


@pytest.mark.parametrize("text", ["sofa", "couch", "settee", "canapé", "CANAPE", "sofas", "couches", "ソファ"])
def test_a_word_finds_what_the_others_of_its_group_find_too(ask: Ask, text: str) -> None:
    """By its stem, and without its case and accents, as every word."""
    answer = ask(text)
    assert answer["match"] == "all"
    assert {hit["product_id"] for hit in answer["hits"]} - {"p-9"} == SEATS


def test_what_has_the_word_itself_comes_before_what_has_a_synonym(ask: Ask) -> None:
    assert found(ask, "couch")[0] == "p-2"
    assert found(ask, "settees")[0] == "p-3"


def test_the_other_words_of_the_question_still_have_to_be_found(ask: Ask) -> None:
    assert found(ask, "velvet couch") == ["p-2", "p-1"]
    assert found(ask, "corner sofa", language="en") == ["p-3"]


def test_a_group_that_also_finds_is_of_one_direction(ask: Ask) -> None:
    assert found(ask, "tv") == ["p-5", "p-4"]
    assert found(ask, "television") == ["p-4"]
    assert set(found(ask, "perch")) == {"p-15", "p-16"}
    assert found(ask, "stool") == ["p-15"]


def test_words_in_a_row_stand_for_one_and_one_for_them(ask: Ask) -> None:
    assert found(ask, "wash basin") == ["p-6", "p-7"]
    assert found(ask, "oak wash basins") == ["p-6", "p-7"]
    assert found(ask, "sink") == ["p-7", "p-6"]
    assert found(ask, "oak sink") == ["p-7", "p-6"]
    # Neither half of them, nor both in another order, is what was given a synonym.
    assert found(ask, "wash") == ["p-11", "p-6"]
    assert found(ask, "basin wash") == ["p-6"]
    assert found(ask, "wash bag") == ["p-11"]


def test_a_synonym_is_no_sku(ask: Ask) -> None:
    """The SKU is found by itself, and first; a question for a synonym does not find it."""
    assert found(ask, "SOFA")[0] == "p-9"
    assert "p-9" not in found(ask, "couch")


def test_a_word_that_is_not_finished_has_no_synonyms_yet(ask: Ask) -> None:
    assert found(ask, "sof", language="en") == ["p-1"]
    assert set(found(ask, "sofa", language="en")) >= SEATS


def test_a_synonym_is_a_whole_word(ask: Ask) -> None:
    assert found(ask, "light") == ["p-13", "p-12"]
    assert found(ask, "lamp") == ["p-13"]


def test_typos_are_forgiven_in_the_question_and_not_in_its_synonyms(ask: Ask) -> None:
    answer = ask("velvt couch")
    assert (answer["match"], [hit["product_id"] for hit in answer["hits"]]) == ("similar", ["p-2", "p-1"])
    answer = ask("velvt lamp")
    assert [(hit["product_id"], hit["name_html"]) for hit in answer["hits"]] == [
        ("p-13", "<mark>Velvet</mark> <mark>light</mark> for the night")
    ]
    # A typo in the word for which a synonym was given: it is another word.
    assert found(ask, "televison") == ["p-4"]
    assert found(ask, "setee") == ["p-3"]


def test_a_synonym_that_was_found_is_marked(ask: Ask) -> None:
    marked = {hit["product_id"]: hit["name_html"] for hit in ask("velvet couch")["hits"]}
    assert marked["p-1"] == "<mark>Velvet</mark> <mark>sofa</mark>"
    assert [hit["name_html"] for hit in ask("couch")["hits"] if hit["product_id"] == "p-10"] == ["<mark>ソファ</mark>"]
    assert ask("sink")["hits"][1]["name_html"] == "Oak <mark>wash</mark> <mark>basin</mark>"


def test_filters_and_facets_count_what_synonyms_find(ask: Ask) -> None:
    assert ask("couch")["total"] == len(SEATS)
    assert sum(each["count"] for each in ask("couch")["facets"]["prices"]) == len(SEATS)


def test_another_sellers_synonyms_do_nothing(ask: Ask) -> None:
    assert found(ask, "couch", seller_id="other") == ["theirs"]
    assert ask("sofa", seller_id="other")["total"] == 0


def test_synonyms_that_were_taken_back_find_nothing_more(tmp_path: Path) -> None:
    index = index_of(tmp_path, PRODUCTS)
    index.put("synonyms", [GivenSynonyms("demo", 1, GROUPS)])
    index.put("synonyms", [GivenSynonyms("demo", 2, [])])
    index.commit()
    assert found(asking(index), "couch") == ["p-2"]


def test_a_question_has_only_so_many_synonyms() -> None:
    """Each of them is searched for, and a buyer may ask for any words in a row."""
    groups = [group(f"word{n}", *(f"other{n}x{each}" for each in range(15))) for n in range(9)]
    asked = Synonyms(groups, ["en"]).given_to(asked_words(" ".join(f"word{n}" for n in range(9)), ["en"]))
    assert [len(word.synonyms) for word in asked] == [15] * (SYNONYMS_MAX // 15) + [0] * 3


def test_synonyms_of_words_of_one_stem_are_searched_for_once() -> None:
    [asked] = Synonyms([group("couch", "couches", "sofa")], ["en"]).given_to(asked_words("couch", ["en"]))
    assert sorted(each[0].word.lower for each in asked.synonyms) == ["couch", "couches", "sofa"]
