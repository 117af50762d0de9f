"""What a seller may ask of an endpoint."""

import pytest

from domain.webhook import EVENT_TYPES, check_description, check_events, check_url, wants


@pytest.mark.parametrize(
    "url",
    ["https://shop.example", "https://shop.example:8443/hooks?shop=1", "https://93.184.216.34/", "https://[2606::1]/"],
)
def test_https_urls_are_taken(url: str) -> None:
    assert check_url(url, may_be_plain=False) is None


@pytest.mark.parametrize(
    "url",
    [
        "", "shop.example/hooks", "http://shop.example", "ftp://shop.example", "https://", "https:///hooks",
        "https://user:secret@shop.example", "https://shop.example/#here", "https://shop.example/a b",
        "https://shop.example/\n", "https://shöp.example", "https://shop.example:0/", "https://shop.example:99999/",
        "https://[::1/", "https://shop.example/" + "x" * 500, "file:///etc/passwd",
    ],
)  # fmt: skip
def test_others_are_refused_with_their_field(url: str) -> None:
    refused = check_url(url, may_be_plain=False)
    assert refused is not None
    assert refused.field == "url"


def test_plain_http_is_for_networks_of_ones_own() -> None:
    assert check_url("http://127.0.0.1:8000/hooks", may_be_plain=True) is None


def test_a_filter_names_types_once() -> None:
    assert check_events(list(EVENT_TYPES)) is None
    assert check_events(["order.paid"]) is not None
    assert check_events(["order.placed", "order.placed"]) is not None


def test_an_empty_filter_wants_all() -> None:
    assert wants([], "order.placed")
    assert wants(["order.placed"], "order.placed")
    assert not wants(["order.placed"], "order.shipped")


def test_a_description_is_short_and_printable() -> None:
    assert check_description("") is None
    assert check_description("Lager, Lyon") is None
    assert check_description("a\x00b") is not None
    assert check_description("x" * 201) is not None
