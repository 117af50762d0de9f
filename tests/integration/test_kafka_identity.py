"""A fresh broker's identity is random, and any of them must do."""

import uuid
from pathlib import Path

import pytest

from local import kafka


def test_an_id_that_begins_with_a_dash_is_no_option(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One in 64 does."""
    monkeypatch.setattr("uuid.uuid4", lambda: uuid.UUID(bytes=b"\xfb" * 16))
    kafka.prepare(tmp_path / "kafka", 20_991, 20_992)
    assert "cluster.id=-_v7" in (tmp_path / "kafka" / "log" / "meta.properties").read_text()
