"""Entity tags in `If-Match` and `If-None-Match`, as RFC 9110 has them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from gateway.http.parameters import EntityTags, entity_tags

ANY = EntityTags(is_any=True)
#: What may stand in a tag: no control character, no space, no quote. Commas and backslashes may.
TAGS = st.text("!#,\\*/W'~aé\xff\u0100", max_size=4)


def read(*lines: str) -> EntityTags | None:
    return entity_tags(CIMultiDict(("If-Match", line) for line in lines), "if-match")


def strong(*tags: str) -> EntityTags:
    return EntityTags(strong=frozenset(tags))


@pytest.mark.parametrize(
    ("lines", "tags"),
    [
        ([], None),
        (['"a"'], strong("a")),
        (['""'], strong("")),
        (['"a", "b"'], strong("a", "b")),
        (['"a","b" ,\t"c"'], strong("a", "b", "c")),
        ([', "a",, "b",'], strong("a", "b")),
        (['"a"', '"b", "c"'], strong("a", "b", "c")),
        (['"a,b"'], strong("a,b")),
        (['"a\\"'], strong("a\\")),
        (['W/"a"'], EntityTags(weak=frozenset("a"))),
        (['W/"a", "b"'], EntityTags(strong=frozenset("b"), weak=frozenset("a"))),
        (["*"], ANY),
        ([" * "], ANY),
        # A tag that looks like one.
        (['"*"'], strong("*")),
        # Against the grammar: nothing is granted for it.
        ([""], EntityTags()),
        (["a"], EntityTags()),
        (['*, "a"'], EntityTags()),
        (["*", "*"], EntityTags()),
        (['w/"a"'], EntityTags()),
        (['W/ "a"'], EntityTags()),
        (['"a'], EntityTags()),
        (['"a" "b"'], EntityTags()),
        (['"a b"'], EntityTags()),
        # A line that can't be read takes nothing away from another.
        (["a", '"b"'], strong("b")),
    ],
)
def test_the_tags_of_all_lines_are_one_list(lines: list[str], tags: EntityTags | None) -> None:
    assert read(*lines) == tags


@given(st.lists(st.lists(st.tuples(st.booleans(), TAGS), min_size=1, max_size=3), min_size=1, max_size=3))
def test_whatever_a_tag_holds_it_is_found_again(lines: list[list[tuple[bool, str]]]) -> None:
    found = read(*(", ".join(f'{"W/" if is_weak else ""}"{tag}"' for is_weak, tag in line) for line in lines))
    assert found is not None
    for is_weak, tag in (each for line in lines for each in line):
        assert tag in (found.weak if is_weak else found.strong)
        assert found.match_weakly(tag)


def test_only_a_strong_tag_permits_a_change() -> None:
    """`If-Match` compares strongly, `If-None-Match` weakly; `*` is anything that exists."""
    tags = read('W/"1", "2"')
    assert tags is not None
    assert (tags.match_strongly("1"), tags.match_strongly("2"), tags.match_strongly("3")) == (False, True, False)
    assert (tags.match_weakly("1"), tags.match_weakly("2"), tags.match_weakly("3")) == (True, True, False)
    assert ANY.match_strongly("1")
    assert ANY.match_weakly("1")


@given(st.lists(st.text(max_size=40)))
def test_any_lines_can_be_read(lines: list[str]) -> None:
    read(*lines)
