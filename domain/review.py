"""Reviews: what buyers say of an article that they were delivered, and who may see it.

A review belongs to one line of an order. The table is the whole of its life; nothing is shown before somebody of the
shop has approved it, and a change has to be approved again.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from domain.refusals import INVALID_FIELD, NOT_PERMITTED, Refusal
from domain.texts import check_lines, check_text

STARS_MAX = 5
TITLE_CHARS_MAX = 120
BODY_CHARS_MAX = 4_000
AUTHOR_CHARS_MAX = 60
REASON_CHARS_MAX = 500


class ReviewState(StrEnum):
    """Where a review stands."""

    #: Written or changed, and seen by nobody yet.
    PENDING = "pending"
    #: Shown, and counted in the article's rating.
    PUBLISHED = "published"
    REJECTED = "rejected"
    #: Taken back by its author; its words are deleted.
    WITHDRAWN = "withdrawn"


class ReviewTrigger(StrEnum):
    """What moves a review."""

    #: Its author writes or changes it.
    WRITE = "write"
    #: Its author takes it back.
    WITHDRAW = "withdraw"
    APPROVE = "approve"
    REJECT = "reject"


#: The state after each step; None stands for a review that there isn't yet.
TABLE: Mapping[tuple[ReviewState | None, ReviewTrigger], ReviewState] = {
    (None, ReviewTrigger.WRITE): ReviewState.PENDING,
    (ReviewState.PENDING, ReviewTrigger.WRITE): ReviewState.PENDING,
    (ReviewState.PUBLISHED, ReviewTrigger.WRITE): ReviewState.PENDING,
    (ReviewState.REJECTED, ReviewTrigger.WRITE): ReviewState.PENDING,
    (ReviewState.WITHDRAWN, ReviewTrigger.WRITE): ReviewState.PENDING,
    (ReviewState.PENDING, ReviewTrigger.APPROVE): ReviewState.PUBLISHED,
    (ReviewState.REJECTED, ReviewTrigger.APPROVE): ReviewState.PUBLISHED,
    (ReviewState.PENDING, ReviewTrigger.REJECT): ReviewState.REJECTED,
    (ReviewState.PUBLISHED, ReviewTrigger.REJECT): ReviewState.REJECTED,
    (ReviewState.PENDING, ReviewTrigger.WITHDRAW): ReviewState.WITHDRAWN,
    (ReviewState.PUBLISHED, ReviewTrigger.WITHDRAW): ReviewState.WITHDRAWN,
    (ReviewState.REJECTED, ReviewTrigger.WITHDRAW): ReviewState.WITHDRAWN,
}
#: A trigger whose state a review has already: repeating it is answered as it was the first time.
OBEYED: Mapping[ReviewTrigger, ReviewState] = {
    ReviewTrigger.APPROVE: ReviewState.PUBLISHED,
    ReviewTrigger.REJECT: ReviewState.REJECTED,
    ReviewTrigger.WITHDRAW: ReviewState.WITHDRAWN,
}


def step(state: ReviewState | None, trigger: ReviewTrigger) -> ReviewState | Refusal:
    """The state after the trigger, or why the table forbids it."""
    after = TABLE.get((state, trigger))
    if after is not None:
        return after
    permitted = sorted(before for before, its in TABLE if its is trigger and before is not None)
    stands = "not written" if state is None else state.value
    return Refusal(
        NOT_PERMITTED, "action", f"a review that is {stands} can't {trigger.value}; it must be {' or '.join(permitted)}"
    )


@dataclass(frozen=True, slots=True)
class Words:
    """What a review says."""

    #: 1 to 5.
    stars: int
    title: str
    body: str
    #: As it is shown.
    author: str


def check_words(words: Words) -> Refusal | None:
    """Why a review can't say this."""
    if not 1 <= words.stars <= STARS_MAX:
        return Refusal(INVALID_FIELD, "stars", f"must be from 1 to {STARS_MAX}")
    return (
        check_text("title", words.title, TITLE_CHARS_MAX)
        or check_lines("body", words.body, BODY_CHARS_MAX)
        or check_text("author", words.author, AUTHOR_CHARS_MAX)
    )


def average_hundredths(stars: int, count: int) -> int:
    """The average of `count` reviews with so many stars in all, in hundredths of a star, rounded half up."""
    return (stars * 200 + count) // (2 * count)


def average_text(stars: int, count: int) -> str:
    """The same with two decimals, as it is shown everywhere."""
    hundredths = average_hundredths(stars, count)
    return f"{hundredths // 100}.{hundredths % 100:02d}"


#: Without reviews.
NO_STARS = (0, 0, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Rating:
    """How many published reviews gave 1, 2, 3, 4 and 5 stars."""

    counts: tuple[int, int, int, int, int] = NO_STARS

    @property
    def count(self) -> int:
        """Of reviews."""
        return sum(self.counts)

    @property
    def average(self) -> str | None:
        """With two decimals, rounded half up; None without reviews."""
        stars = sum(number * count for number, count in enumerate(self.counts, 1))
        return average_text(stars, self.count) if self.count else None

    def changed(self, before: int | None, after: int | None) -> "Rating":
        """With one published review less, of `before` stars, and one more, of `after` stars."""
        counts = list(self.counts)
        if before is not None:
            counts[before - 1] -= 1
        if after is not None:
            counts[after - 1] += 1
        one, two, three, four, five = counts
        return Rating((one, two, three, four, five))
