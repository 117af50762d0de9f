"""Where an agent stands in a partition, and what a batch means there: the whole of exactly-once, in one function.

The position is the row `(agent, topic, partition) -> next_offset`, moved by compare-and-set in the transaction that
writes the batch's effects. Zombies, redeliveries, lost events and double starts all end in one of these four ways.
"""

from enum import Enum


class Standing(Enum):
    """How a batch stands to the position."""

    #: The position is the batch's first offset: do it.
    NEXT = "next"
    #: The position lies beyond the batch: another worker did it. Skip it.
    DONE = "done"
    #: The position lies inside: drop the part already done, try again.
    PARTLY_DONE = "partly done"
    #: The position lies before: records between were lost on the way, or the log has a hole of its own there.
    EARLY = "early"


def standing(first_offset: int, next_offset: int, position: int) -> Standing:
    """How the batch of offsets [first_offset, next_offset) stands to `position`, the first offset not yet done."""
    if position == first_offset:
        return Standing.NEXT
    if position >= next_offset:
        return Standing.DONE
    if position > first_offset:
        return Standing.PARTLY_DONE
    return Standing.EARLY
