"""Settings that would silently mean something else than they seem to."""

from pathlib import Path

import pytest

from runtime.settings import SettingsError, load


@pytest.mark.parametrize("name", ["SECRET_KEYS", "LINK_KEYS"])
@pytest.mark.parametrize("keys", ["", " ", ",", " , "])
def test_keys_that_are_set_and_are_none_are_refused(name: str, keys: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty secret that is mounted would leave the secrets of webhooks unencrypted, and nobody would know."""
    with pytest.raises(SettingsError, match=f"GAPLESS_{name}: .*has no key"):
        load(**{name.lower(): keys})
    monkeypatch.setenv(f"GAPLESS_{name}", keys)
    with pytest.raises(SettingsError, match=f"GAPLESS_{name}: .*has no key"):
        load()


def test_a_file_of_keys_that_is_empty_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "keys").write_text("\n")
    monkeypatch.setenv("GAPLESS_SECRET_KEYS_FILE", str(tmp_path / "keys"))
    with pytest.raises(SettingsError, match=r"GAPLESS_SECRET_KEYS: .*has no key"):
        load()
