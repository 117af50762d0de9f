"""What our processes can read off a topic, whoever wrote it."""

import pytest
from aiokafka import codec


@pytest.mark.parametrize("name", ["gzip", "snappy", "lz4", "zstd"])
def test_a_record_compressed_in_any_way_can_be_read(name: str) -> None:
    """Without its library, the consumer would crash on the first such record, and again after each restart."""
    assert getattr(codec, f"has_{name}")()
