"""Compressions that our consumers can read, whichever a producer uses."""

import pytest
from aiokafka import codec


@pytest.mark.parametrize("name", ["gzip", "snappy", "lz4", "zstd"])
def test_a_record_compressed_in_any_way_can_be_read(name: str) -> None:
    """Without the codec's library, the consumer would crash on the first such record, and after each restart."""
    assert getattr(codec, f"has_{name}")()
