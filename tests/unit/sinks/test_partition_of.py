"""Where a key's records go."""

import pytest

from sinks.postgres.stock import partition_of


@pytest.mark.parametrize(
    ("key", "murmur2"),
    [
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_a_key_goes_where_java_clients_put_it(key: bytes, murmur2: int) -> None:
    """The values are those of Kafka's own test of `Utils.murmur2`."""
    assert partition_of(key, 1 << 31) == murmur2 & 0x7FFFFFFF
    assert partition_of(key, 4) == (murmur2 & 0x7FFFFFFF) % 4
