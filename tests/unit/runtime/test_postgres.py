"""The cluster of the local stack is created once, and never again if it is lost."""

from pathlib import Path

import pytest

from local import postgres
from local.errors import StackError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A stack's folder in which a cluster was created."""
    (tmp_path / "postgres" / "cluster").mkdir(parents=True)
    postgres.write_secret(tmp_path / "password", "hush")
    return tmp_path


def prepare(folder: Path) -> postgres.Server:
    return postgres.prepare(folder / "postgres", 5432, folder / "password", "0123")


def test_a_cluster_that_is_gone_is_not_made_again(folder: Path) -> None:
    """An empty one would issue the numbers of existing invoices again."""
    (folder / "postgres" / "cluster").rmdir()
    with pytest.raises(StackError, match=r"cluster is missing, but password shows that it was created: restore it"):
        prepare(folder)
    assert not (folder / "postgres" / "cluster").exists()


def test_a_cluster_that_the_release_before_put_elsewhere_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message contains the command that restores it."""
    monkeypatch.setattr(postgres, "_binaries", lambda _: folder)
    monkeypatch.setattr(postgres, "REACHABLE", folder)
    (folder / "gapless-0123").mkdir()
    (folder / "postgres" / "cluster").rename(folder / "gapless-0123" / "cluster")
    with pytest.raises(StackError, match=r"mv .*/gapless-0123/cluster .*/postgres/cluster$"):
        prepare(folder)


def test_a_cluster_without_its_password_is_refused(folder: Path) -> None:
    """It can't be used without the password, and must not be replaced."""
    (folder / "password").unlink()
    with pytest.raises(StackError, match=r"password is missing, and with it the password of .*cluster: restore it"):
        prepare(folder)


def test_a_cluster_that_was_complete_but_for_its_name_is_taken(folder: Path) -> None:
    """Its creation was interrupted before the last step, the rename."""
    cluster = folder / "postgres" / "cluster"
    cluster.rename(cluster.with_name("cluster.partial"))
    assert prepare(folder).folder == cluster
    assert (cluster / "gapless.conf").exists()
