"""Where a record of an input topic belongs: its key is its order id, and its partition is its key's.

All that concerns an order looks for it in that partition. A checkout in another one would be sold and paid there, and
could never be shipped, refunded or cancelled.
"""

import struct

from schemas.codec import DecodeError, order_id_of

_WORD = struct.Struct("<I")


def misplaced(partitions: int, partition: int, key: bytes | None, value: bytes | None) -> str | None:
    """Why a record does not belong where it stands, beginning with `wrong-key` or `wrong-partition`; None if it does.

    `partitions` is how many each of the deployment's topics has.

    A value that names no order is not judged: it can't be decoded, and its reader says so.
    """
    if key is None:
        return "wrong-key: the record has no key; it must be the order_id in UTF-8"
    if value is not None:
        try:
            if order_id_of(value) != key:
                return "wrong-key: the key is not the order_id in UTF-8"
        except DecodeError:
            pass
    belongs = partition_of(key, partitions)
    if belongs != partition:
        return (
            f"wrong-partition: the key belongs to partition {belongs}; partition keys as Java clients do"
            " (librdkafka: partitioner=murmur2_random)"
        )
    return None


def partition_of(key: bytes, partitions: int) -> int:
    """Where the Java clients' default partitioner puts a key: 32-bit MurmurHash2 with Kafka's seed."""
    multiplier, mask = 0x5BD1E995, 0xFFFFFFFF
    digest = 0x9747B28C ^ len(key)
    whole = len(key) - len(key) % 4
    for (word,) in _WORD.iter_unpack(key[:whole]):
        word = word * multiplier & mask
        digest = (digest * multiplier & mask) ^ ((word ^ (word >> 24)) * multiplier & mask)
    if rest := key[whole:]:
        digest = (digest ^ int.from_bytes(rest, "little")) * multiplier & mask
    digest = (digest ^ (digest >> 13)) * multiplier & mask
    return ((digest ^ (digest >> 15)) & 0x7FFFFFFF) % partitions
