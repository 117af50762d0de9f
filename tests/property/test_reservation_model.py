"""Stock against the plainest model of it, over random histories of many orders."""

from collections import Counter
from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
)

from domain.reservation import Change, Level, Shelf, Short, Sku, wanted_of

NAMES = ("A", "B", "C")
#: In no warehouse: an order for it is always refused.
UNKNOWN = "X"
LINES = st.lists(st.tuples(st.sampled_from((*NAMES, UNKNOWN)), st.integers(1, 6)), min_size=1, max_size=5)
KNOWN_LINES = st.lists(st.tuples(st.sampled_from(NAMES), st.integers(1, 6)), min_size=1, max_size=5)
ON_HAND = st.tuples(*(st.integers(0, 12) for _ in NAMES))


def sku(name: str) -> Sku:
    return Sku("demo", name)


def pieces(lines: list[tuple[str, int]]) -> Counter[str]:
    """How many of each, line by line."""
    counted: Counter[str] = Counter()
    for name, quantity in lines:
        counted[name] += quantity
    return counted


@dataclass(frozen=True)
class Order:
    """An order's number, which is its place in time, and what it wants of each SKU."""

    number: int
    wanted: tuple[tuple[str, int], ...]


class Warehouse(RuleBasedStateMachine):
    """The model: pieces on hand by name, and the open claims by order. The rows: levels, as a table would keep them.

    Each rule is a transaction: it takes a fresh `Shelf` of the rows and writes back what that says has changed.
    """

    claimed: Bundle[Order] = Bundle("claimed")
    expired: Bundle[Order] = Bundle("expired")

    @initialize(on_hand=ON_HAND)
    def stock_up(self, on_hand: tuple[int, ...]) -> None:
        self.rows = {sku(name): Level(count, 0, 0) for name, count in zip(NAMES, on_hand, strict=True)}
        self.on_hand = Counter(dict(zip(NAMES, on_hand, strict=True)))
        self.claims: dict[int, Counter[str]] = {}
        self.orders = 0
        #: All that was ever told of a SKU, in the order of time.
        self.told: dict[str, list[Level]] = {name: [] for name in NAMES}

    @rule(target=claimed, batch=st.lists(LINES, min_size=1, max_size=6))
    def reserve(self, batch: list[list[tuple[str, int]]]) -> MultipleResults[Order]:
        """A batch of checkouts: each is served wholly or not at all, before any that comes after it."""
        shelf = Shelf(dict(self.rows))
        served = []
        for lines in batch:
            wanted = pieces(lines)
            free = self.free()
            short = {name: (count, free[name]) for name, count in wanted.items() if count > free[name]}
            outcome = shelf.reserve(wanted_of("demo", lines))
            if short:
                assert outcome == [Short(name, *short[name]) for name in sorted(short)]
                continue
            self.orders += 1
            self.claims[self.orders] = wanted
            served.append(Order(self.orders, tuple(wanted.items())))
            self.take_down(outcome, wanted)
        self.write(shelf)
        return multiple(*served)

    @rule(target=expired, order=consumes(claimed))
    def release(self, order: Order) -> Order:
        """Not paid in time, declined, or cancelled."""
        self.give_up(order, shipped=False)
        return order

    @rule(order=consumes(claimed))
    def ship(self, order: Order) -> None:
        self.give_up(order, shipped=True)

    @rule(target=claimed, order=consumes(expired))
    def retake(self, order: Order) -> MultipleResults[Order]:
        """A late payment: as if it came now."""
        wanted = Counter(dict(order.wanted))
        shelf = Shelf(dict(self.rows))
        outcome = shelf.reserve(wanted_of("demo", order.wanted))
        free = self.free()
        if any(count > free[name] for name, count in wanted.items()):
            assert all(isinstance(each, Short) for each in outcome)
            self.write(shelf)
            return multiple()
        self.claims[order.number] = wanted
        self.take_down(outcome, wanted)
        self.write(shelf)
        return multiple(order)

    @rule(name=st.sampled_from(NAMES), adjust=st.integers(-12, 12))
    def adjust(self, name: str, adjust: int) -> None:
        """The seller counts again; what is claimed can't be taken away."""
        level = self.rows[sku(name)]
        if adjust == 0 or level.on_hand + adjust < level.reserved:
            return
        self.on_hand[name] += adjust
        self.rows[sku(name)] = Level(level.on_hand + adjust, level.reserved, level.version + 1)
        self.told[name].append(self.rows[sku(name)])

    @invariant()
    def what_is_reserved_is_the_sum_of_the_open_claims(self) -> None:
        for name in NAMES:
            assert self.rows[sku(name)].reserved == self.reserved()[name]

    @invariant()
    def nothing_is_sold_that_is_not_there(self) -> None:
        for name in NAMES:
            level = self.rows[sku(name)]
            assert 0 <= level.reserved <= level.on_hand == self.on_hand[name]

    @invariant()
    def versions_have_no_gap_and_the_last_change_told_is_the_row(self) -> None:
        for name, told in self.told.items():
            assert [level.version for level in told] == list(range(1, len(told) + 1))
            assert self.rows[sku(name)].version == len(told)
            assert not told or told[-1] == self.rows[sku(name)]

    def give_up(self, order: Order, *, shipped: bool) -> None:
        shelf = Shelf(dict(self.rows))
        claim = self.claims.pop(order.number)
        move = shelf.ship if shipped else shelf.release
        outcome = move(wanted_of("demo", order.wanted))
        if shipped:
            self.on_hand.subtract(claim)
        self.take_down(outcome, claim)
        self.write(shelf)

    def take_down(self, outcome: list[Change] | list[Short], wanted: Counter[str]) -> None:
        """One change for each SKU, by name, which says what the model says."""
        told: list[tuple[str, int]] = []
        reserved = self.reserved()
        for change in outcome:
            assert isinstance(change, Change)
            name = change.sku.sku
            told.append((name, change.quantity))
            self.told[name].append(change.after)
            assert (change.after.on_hand, change.after.reserved) == (self.on_hand[name], reserved[name])
        assert told == sorted(wanted.items())

    def write(self, shelf: Shelf) -> None:
        """As an agent does: only rows that were changed, and those all."""
        before = dict(self.rows)
        self.rows |= {each: shelf.levels[each] for each in shelf.changed}
        assert self.rows == shelf.levels
        assert shelf.changed == {each for each, level in self.rows.items() if before[each] != level}

    def free(self) -> Counter[str]:
        reserved = self.reserved()
        return Counter({name: self.on_hand[name] - reserved[name] for name in NAMES})

    def reserved(self) -> Counter[str]:
        return sum(self.claims.values(), Counter())


Warehouse.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestWarehouse = Warehouse.TestCase


@given(ON_HAND, st.lists(KNOWN_LINES, max_size=20), st.integers(0, 20))
def test_a_batch_cut_anywhere_serves_the_same_orders(
    on_hand: tuple[int, ...], orders: list[list[tuple[str, int]]], cut: int
) -> None:
    """How the log is cut into batches is chance: who is served must not be."""

    def served(batches: list[list[list[tuple[str, int]]]]) -> list[bool]:
        rows = {sku(name): Level(count, 0, 0) for name, count in zip(NAMES, on_hand, strict=True)}
        outcomes = []
        for batch in batches:
            shelf = Shelf(dict(rows))
            outcomes += [isinstance(shelf.reserve(wanted_of("demo", lines))[0], Change) for lines in batch]
            rows |= {each: shelf.levels[each] for each in shelf.changed}
        return outcomes

    assert served([orders]) == served([orders[:cut], orders[cut:]]) == served([[lines] for lines in orders])


@given(st.integers(0, 30), st.integers(1, 60))
def test_of_single_pieces_the_first_comers_get_exactly_what_there_is(stock: int, buyers: int) -> None:
    shelf = Shelf({sku("A"): Level(stock, 0, 0)})
    served = [isinstance(shelf.reserve({sku("A"): 1})[0], Change) for _ in range(buyers)]
    assert served == [True] * min(stock, buyers) + [False] * max(0, buyers - stock)
