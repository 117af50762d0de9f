"""Why a record became a dead letter."""

from enum import StrEnum


class DeadLetterReason(StrEnum):
    """The first word of a dead letter's error, before its colon."""

    #: The key is not the order id.
    WRONG_KEY = "wrong-key"
    #: The partition is not the key's.
    WRONG_PARTITION = "wrong-partition"
    #: The bytes are no record of the topic, or hold a value that can't be stored.
    UNDECODABLE = "undecodable"
    #: An event that the journal, or the row that it is about, knows nothing of: the relay has not written it.
    FOREIGN = "foreign"
    #: The event's document can't be rendered.
    NOT_RENDERED = "not-rendered"


def reason_of(error: str) -> DeadLetterReason:
    """The reason that an error begins with.

    Earlier states of 0.1.0 named a reason only for records in the wrong place; their other errors are `undecodable`.
    """
    word = error.partition(":")[0]
    return DeadLetterReason(word) if word in set(DeadLetterReason) else DeadLetterReason.UNDECODABLE
