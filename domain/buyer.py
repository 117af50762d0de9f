"""By what the orders of a buyer are found."""

from hashlib import blake2b


def buyer_key(email: str) -> int:
    """8 bytes of the digest of an e-mail address, as a signed integer; upper and lower case are the same.

    It finds orders, and proves nothing: whoever wants to can make two addresses with the same key.
    """
    digest = blake2b(email.lower().encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)
