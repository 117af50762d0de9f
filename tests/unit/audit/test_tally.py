"""Two accounts compared by sums of digests: every difference is found and named, in any order."""

from hypothesis import given
from hypothesis import strategies as st

from audit.tally import Entry, Tally

ENTRIES = st.lists(st.builds(Entry, st.sampled_from(["order a", "order b", "stock c"]), st.sampled_from("wxyz")))


@given(ENTRIES, ENTRIES)
def test_accounts_agree_if_and_only_if_they_say_the_same_equally_often(
    tables: list[Entry], events: list[Entry]
) -> None:
    tally = Tally()
    for entry in tables:
        tally.in_tables(entry)
    for entry in events:
        tally.in_events(entry)
    expected = {
        entry: difference for entry in {*tables, *events} if (difference := tables.count(entry) - events.count(entry))
    }
    assert tally.agrees == (not expected)
    assert dict(tally.differences(tables, events)) == expected
