"""Which addresses can be mailed to, what settings may be, and how a delivery is found by its Message-ID."""

import pytest

from domain.email import (
    ATTACHED,
    BUYER_TYPES,
    NotAnAddressError,
    check_settings,
    delivery_of,
    message_id,
    parse_mailbox,
    wants,
)

DELIVERY = f"msg_{'0a1b2c3d' * 4}"


@pytest.mark.parametrize(
    ("text", "mailed"),
    [
        ("zoe@example.com", "zoe@example.com"),
        ("Zoe.O'Neil+tag@Example.COM", "Zoe.O'Neil+tag@example.com"),
        ("zoe@bücher.example", "zoe@xn--bcher-kva.example"),
        ("zoe@xn--bcher-kva.example", "zoe@xn--bcher-kva.example"),
        ("zoe@STRASSE.example", "zoe@strasse.example"),
        ("用户@例え.example", "用户@xn--r8jz45g.example"),
        ("zoe@localhost", "zoe@localhost"),
    ],
)
def test_a_domain_becomes_what_the_dns_knows_and_the_rest_stays(text: str, mailed: str) -> None:
    assert str(parse_mailbox(text)) == mailed


@pytest.mark.parametrize(
    "text",
    [
        "",
        "zoe",
        "@example.com",
        "zoe@",
        "a@b@example.com",
        "zoe @example.com",
        "zoe@exa mple.com",
        "zoe@example.com\r\nBcc: eve@evil.example",
        "zoe\r\nRCPT TO:<eve@evil.example>@example.com",
        "zoe\u2028x@example.com",
        "zoe\u202ex@example.com",
        "<zoe@example.com>",
        "zoe,eve@example.com",
        '"zoe eve"@example.com',
        ".zoe@example.com",
        "zoe..x@example.com",
        "zoe@-example.com",
        "zoe@example..com",
        "zoe@example.com.",
        "zoe@[127.0.0.1]",
        "zoe@a_b.example",
        f"{'z' * 65}@example.com",
        f"{'ö' * 33}@example.com",
        f"zoe@{'a' * 64}.example",
        f"zoe@{'a.' * 130}example",
    ],
)
def test_what_no_server_would_take_is_no_address(text: str) -> None:
    with pytest.raises(NotAnAddressError):
        parse_mailbox(text)


def test_only_a_part_before_the_at_beyond_ascii_needs_smtputf8() -> None:
    assert not parse_mailbox("zoe@bücher.example").needs_smtputf8
    assert parse_mailbox("zoë@example.com").needs_smtputf8


def test_without_a_filter_buyers_are_sent_every_type_and_sellers_none() -> None:
    assert all(wants([], each) for each in BUYER_TYPES)
    assert not wants([], "order.placed")
    assert not wants([], "webhook.disabled")
    assert wants(["order.shipped"], "order.shipped")
    assert not wants(["order.shipped"], "order.confirmed")


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"sender": "shop"}, "sender"),
        ({"sender": "löden@example.com"}, "sender"),
        ({"reply_to": "nobody"}, "reply_to"),
        ({"events": ["order.placed"]}, "events"),
        ({"events": ["order.shipped", "order.shipped"]}, "events"),
        ({"documents": "fax"}, "documents"),
    ],
)
def test_a_refused_setting_names_its_field(changed: dict[str, object], field: str) -> None:
    given = {"sender": "shop@example.com", "reply_to": "", "events": [], "documents": ATTACHED}
    assert check_settings(**given) is None  # type: ignore[arg-type]
    refusal = check_settings(**{**given, **changed})  # type: ignore[arg-type]
    assert refusal is not None
    assert refusal.field == field


def test_a_delivery_is_found_by_its_message_id_and_by_no_other() -> None:
    made = message_id(DELIVERY, parse_mailbox("shop@bücher.example"))
    assert made == f"<{DELIVERY}@xn--bcher-kva.example>"
    assert delivery_of(made) == DELIVERY
    assert delivery_of(f" {made.strip('<>')} ") == DELIVERY
    for foreign in ("", "<1@example.com>", f"<{DELIVERY}>", f"<{DELIVERY}x@example.com>", f"{made}{made}"):
        assert delivery_of(foreign) is None
