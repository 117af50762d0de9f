import pytest

from domain.documents import document_key, names_content

SHA256 = "0123456789abcdef" * 4


def test_a_key_says_whose_when_which_and_what() -> None:
    """Seller, year, printed number and hash are all in it."""
    key = document_key("acme", "2026", "ACME-2026-000042", SHA256)
    assert key == "invoices/acme/2026/ACME-2026-000042-0123456789abcdef.pdf"


@pytest.mark.parametrize("number", ["../../etc/passwd", "A/1", "A\\1", "..", "\0", "é №7", "a b", "%2e%2e%2f", "-", ""])
def test_a_printed_number_cannot_leave_its_folder(number: str) -> None:
    """Whatever a seller's format prints, the key has four parts, all of safe characters."""
    key = document_key("acme", 2026, number, SHA256)
    assert key.count("/") == 3
    name = key.rsplit("/", 1)[1]
    assert name not in {".", ".."}
    assert set(name) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-")


def test_numbers_that_look_alike_keep_their_own_keys() -> None:
    """`A/1` and `A?1` become one name, their documents have two hashes."""
    assert document_key("acme", "2026", "A/1", SHA256) != document_key("acme", "2026", "A?1", SHA256[::-1])


def test_a_very_long_number_is_cut() -> None:
    """A key stays far below the 1,024 bytes that stores take."""
    assert len(document_key("acme", "2026", "9" * 5_000, SHA256)) < 200


@pytest.mark.parametrize(
    ("seller_id", "year", "sha256"),
    [("../x", "2026", SHA256), ("", "2026", SHA256), ("A", "2026", SHA256), ("a", "26", SHA256), ("a", "2026", "xyz")],
)
def test_what_cannot_be_part_of_a_key_is_refused(seller_id: str, year: str, sha256: str) -> None:
    """Never a key that another seller's could equal."""
    with pytest.raises(ValueError, match="not a"):
        document_key(seller_id, year, "1", sha256)


def test_a_key_names_its_content_only() -> None:
    """The hash of other bytes is not in it."""
    key = document_key("acme", "2026", "1", SHA256)
    assert names_content(key, SHA256)
    assert not names_content(key, SHA256[::-1])
