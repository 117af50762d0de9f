"""Which addresses may be called on behalf of a seller: those of the public Internet, and what the operator allows."""

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Network = IPv4Network | IPv6Network
Address = IPv4Address | IPv6Address

#: NAT64 (RFC 6052) puts an IPv4 address into the last 32 bits; a host behind a translator reaches that one.
_NAT64 = ip_network("64:ff9b::/96")
#: Beside what `is_global` knows, which differs between releases of Python: protocol assignments, documentation, segment
#: routing, translation of private use (RFC 8215), tunnels (RFC 3056, RFC 4380), and forms out of use (RFC 4291).
_NEVER = tuple(
    ip_network(each)
    for each in (
        *("192.0.0.0/24", "192.88.99.0/24"),
        *("2001::/23", "2001:db8::/32", "3fff::/20", "5f00::/16", "64:ff9b:1::/48", "2002::/16", "::/96", "fec0::/10"),
    )
)


class NotANetworkError(ValueError):
    """A part of the list is no network in CIDR notation; the message names it."""


def parse_networks(text: str) -> tuple[Network, ...]:
    """Networks separated by commas, such as `10.1.0.0/16,fd00::/8`. Raises `NotANetworkError`."""
    found = []
    for part in filter(None, (each.strip() for each in text.split(","))):
        try:
            found.append(ip_network(part))
        except ValueError:
            raise NotANetworkError(f"{part!r} is no network in CIDR notation, such as 10.1.0.0/16") from None
    return tuple(found)


def refusal(host: str, allowed: Sequence[Network] = ()) -> str | None:
    """Why an address, as a socket has it, must not be called; None if it may be.

    An address that holds another one (v4-mapped, NAT64) is judged by that one, because that one is reached.
    """
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return f"{host!r} is no IP address"
    if _is_in(address, allowed):
        return None
    inner = _inner(address)
    if inner != address and _is_in(inner, allowed):
        return None
    if _is_in(inner, _NEVER) or not inner.is_global or inner.is_multicast:
        return f"{host} is not an address of the public Internet"
    return None


def _inner(address: Address) -> Address:
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in _NAT64:
            return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address


def _is_in(address: Address, networks: Iterable[Network]) -> bool:
    return any(address.version == each.version and address in each for each in networks)
