"""What finds the orders of a buyer."""

from domain.buyer import buyer_key


def test_the_key_of_an_address_never_changes() -> None:
    """It stands in rows: another one would find none of them."""
    assert buyer_key("zoe@example.com") == -5390440970786536325


def test_an_address_has_one_key_however_it_is_written() -> None:
    assert buyer_key("Zoe@Example.COM") == buyer_key("zoe@example.com") != buyer_key("zoe@example.org")
    assert buyer_key("ZOË@example.com") == buyer_key("zoë@example.com")
