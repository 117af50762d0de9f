"""Fifty questions that a person has judged, over the demo shop's goods: what has to come first, or among the first."""

import pytest

from tests.unit.search.conftest import Ask

#: The question, its language, the product that answers it, and how far down it may be.
JUDGED = [
    # Whole names, in each of the languages.
    ("Ocean mug by Brandt", "", "mug-brandt-ocean", 1),
    ("moss vase by fjord", "en", "vase-fjord-moss", 1),
    ("Tasse bleu océan de Corvo", "fr", "mug-corvo-ocean", 1),
    ("Becher von Dahlin, ziegelrot", "de", "mug-dahlin-brick", 1),
    ("Horloge miel de Ivry", "", "clock-ivry-honey", 1),
    ("Uhr von Juno, rosa", "", "clock-juno-rose", 1),
    # Without accents, in capitals, with another order of words.
    ("tasse bleu ocean corvo", "fr", "mug-corvo-ocean", 1),
    ("BRANDT MUG OCEAN", "", "mug-brandt-ocean", 1),
    ("schale gallo kreideweiss", "de", "bowl-gallo-chalk", 1),
    ("schale gallo kreideweiß", "", "bowl-gallo-chalk", 1),
    ("océan tasse gallo", "", "mug-gallo-ocean", 1),
    ("fjord lamp night", "", "lamp-fjord-night", 1),
    # Stems.
    ("ocean mugs brandt", "en", "mug-brandt-ocean", 1),
    ("slate blankets by hanso", "en", "blanket-hanso-slate", 1),
    ("couvertures ardoise de hanso", "fr", "blanket-hanso-slate", 1),
    ("lampes prune estrel", "fr", "lamp-estrel-plum", 1),
    ("coussins rose ivry", "fr", "cushion-ivry-rose", 1),
    ("clocks gallo moss", "", "clock-gallo-moss", 1),
    ("sacs sable juno", "", "bag-juno-sand", 1),
    ("notebooks aubel plum", "", "notebook-aubel-plum", 1),
    # The beginning of the last word.
    ("ocean mug bra", "", "mug-brandt-ocean", 1),
    ("corvo honey bla", "", "blanket-corvo-honey", 1),
    ("dahlin plate nig", "", "plate-dahlin-night", 1),
    ("tasse brique de est", "fr", "mug-estrel-brick", 1),
    ("kissen von juno, mo", "de", "cushion-juno-moss", 1),
    ("estrel chalk no", "", "notebook-estrel-chalk", 1),
    # Typos.
    ("ocean mug brant", "", "mug-brandt-ocean", 1),
    ("blankt corvo honey", "", "blanket-corvo-honey", 1),
    ("notebok fjord slate", "", "notebook-fjord-slate", 1),
    ("cusihon rose ivry", "", "cushion-ivry-rose", 1),
    ("couvertrue hanso ardoise", "fr", "blanket-hanso-slate", 1),
    ("pflaumenblu vase aubel", "de", "vase-aubel-plum", 1),
    ("fjrod moss vase", "", "vase-fjord-moss", 1),
    ("brick claock gallo", "", "clock-gallo-brick", 1),
    # SKUs and ids, in any case.
    ("MUG-BRANDT-OCEAN", "", "mug-brandt-ocean", 1),
    ("bag-corvo-moss-s", "", "bag-corvo-moss", 1),
    ("NOTEBOOK-IVRY-SAND-A6", "", "notebook-ivry-sand", 1),
    ("vase-hanso-night", "", "vase-hanso-night", 1),
    # Small words, and characters that are no words.
    ("a mug by brandt in ocean", "en", "mug-brandt-ocean", 1),
    ("le vase de juno, couleur sable", "fr", "vase-juno-sand", 3),
    ("ocean & mug / brandt!", "", "mug-brandt-ocean", 1),
    ("«vase» (fjord) moss?", "", "vase-fjord-moss", 1),
    ("vase d'aubel prune", "fr", "vase-aubel-plum", 1),
    # Words of descriptions, attributes and categories.
    ("textiles juno moss 40", "", "cushion-juno-moss", 3),
    ("workshop brandt ocean mug", "", "mug-brandt-ocean", 1),
    ("kitchen corvo sand plates", "en", "plate-corvo-sand", 1),
    ("paper ivry night", "", "notebook-ivry-night", 1),
    # Words that nothing has.
    ("ocean mug brandt dishwasher-safe", "", "mug-brandt-ocean", 3),
    ("vintage moss lamp gallo xylograph", "", "lamp-gallo-moss", 3),
    ("rose plate estrel zzzz", "", "plate-estrel-rose", 3),
]


def test_fifty_are_judged() -> None:
    assert len({(text, language) for text, language, _, _ in JUDGED}) == 50


@pytest.mark.parametrize(("text", "language", "expected", "within"), JUDGED, ids=[each[0] for each in JUDGED])
def test_what_answers_the_question_comes_first(
    ask_goods: Ask, text: str, language: str, expected: str, within: int
) -> None:
    found = [hit["product_id"] for hit in ask_goods(text, language=language, limit=10)["hits"]]
    assert expected in found[:within]
