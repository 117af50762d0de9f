"""Which addresses may be called on behalf of a seller."""

import pytest

from domain.addresses import NotANetworkError, parse_networks, refusal

#: Of networks that are not for everybody, in every form that a socket may have them in.
REFUSED = (
    "0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.255", "100.64.0.1", "127.0.0.1", "127.255.255.254",
    "169.254.0.1", "169.254.169.254", "169.254.170.2", "172.16.0.1", "172.31.255.255", "192.0.0.8", "192.0.2.1",
    "192.88.99.1", "192.168.0.1", "192.168.255.255", "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1",
    "239.255.255.250", "240.0.0.1", "255.255.255.255", "::", "::1", "::127.0.0.1", "::7f00:1",
    "::ffff:127.0.0.1", "::ffff:a9fe:a9fe", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe",
    "64:ff9b::10.1.2.3", "64:ff9b:1::a00:1", "100::1", "2001::1", "2001:db8::1", "2002:7f00:1::",
    "2002:a00:1::1", "fc00::1", "fd00:ec2::254", "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1", "localhost",
    "", "1.2.3", "0x7f000001",
)  # fmt: skip


@pytest.mark.parametrize("host", REFUSED)
def test_what_is_not_of_the_public_internet_is_refused(host: str) -> None:
    assert refusal(host) is not None


@pytest.mark.parametrize(
    "host", ["1.1.1.1", "93.184.216.34", "172.32.0.1", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::1.1.1.1"]
)
def test_what_is_of_the_public_internet_may_be_called(host: str) -> None:
    assert refusal(host) is None


def test_an_operator_may_allow_networks_of_their_own_in_all_forms() -> None:
    allowed = parse_networks(" 10.1.0.0/16, fd00::/8 ,,127.0.0.1/32")
    for host in ("10.1.2.3", "::ffff:10.1.2.3", "fd00::7", "127.0.0.1"):
        assert refusal(host, allowed) is None
    for host in ("10.2.0.1", "127.0.0.2", "fc00::1", "::1"):
        assert refusal(host, allowed) is not None


@pytest.mark.parametrize("text", ["10.0.0.1/8", "shop.example", "10.0.0.0/33", "10.0.0.0/8;127.0.0.0/8"])
def test_a_list_that_is_none_is_refused_with_the_part_that_is_wrong(text: str) -> None:
    with pytest.raises(NotANetworkError, match="is no network in CIDR notation"):
        parse_networks(text)
