"""The local provider's payments: in memory, and in a file that survives a kill."""

import os
from pathlib import Path

import msgspec


class BookedRefund(msgspec.Struct):
    """A refund, with the key that it was requested under; the key is empty if it was made in the dashboard."""

    id: str
    amount_minor: int
    key: str = ""
    #: Seconds since 1970.
    made_at: float = 0.0


class BookedPayment(msgspec.Struct):
    """One payment as stored in the file and listed in the ledger. Amounts in minor units."""

    key: str
    id: str
    seller_id: str
    order_id: str
    token: str
    amount_minor: int
    currency: str
    #: authorized, declined, or voided (also if it was voided before it was requested).
    status: str
    reason: str = ""
    #: How often money was reserved for it; more than once would be a bug of this provider.
    acted: int = 0
    captured_minor: int = 0
    refunded_minor: int = 0
    voided_minor: int = 0
    #: Keys of captures, voids and refunds, with their amounts.
    actions: dict[str, int] = {}
    #: Oldest first.
    refunds: list[BookedRefund] = []


class Book:
    """The payments, in memory and in an append-only file."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.payments: dict[str, BookedPayment] = {}
        path = folder / "payments.jsonl"
        decoder = msgspec.json.Decoder(BookedPayment)
        complete = 0
        if path.exists():
            with path.open("rb") as lines:
                for line in lines:
                    if not line.endswith(b"\n"):
                        break  # Torn by the kill: never answered.
                    payment = decoder.decode(line)
                    self.payments[payment.key] = payment
                    complete += len(line)
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
        os.ftruncate(self._file, complete)
        os.lseek(self._file, 0, os.SEEK_END)
        self._encoder = msgspec.json.Encoder()

    def keep(self, payment: BookedPayment) -> None:
        """Append the payment's current state. A kill of this process loses nothing after this returns."""
        line = memoryview(self._encoder.encode(payment) + b"\n")
        while line:
            line = line[os.write(self._file, line) :]
        self.payments[payment.key] = payment

    def refunds(self, since: float) -> list[tuple[BookedPayment, BookedRefund]]:
        """All refunds made since then, in seconds since 1970, latest first, with their payments."""
        made = [
            (payment, each) for payment in self.payments.values() for each in payment.refunds if each.made_at >= since
        ]
        return sorted(made, key=lambda each: (each[1].made_at, each[1].id), reverse=True)

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


def change(payment: BookedPayment, verb: str, key: str, amount_minor: int, now: float) -> str:
    """Carry an action out and return ""; or return the reason why it can't be. The dashboard's have no `key`.

    `now` is in seconds since 1970.
    """
    if payment.status != "authorized" and not (verb == "void" and payment.status == "voided"):
        return f"payment_{payment.status}"
    if verb == "void":
        if payment.captured_minor:
            return "already_captured"
        payment.status, payment.reason, payment.voided_minor = "voided", "voided", payment.amount_minor
    elif verb == "capture":
        if payment.captured_minor + amount_minor > payment.amount_minor:
            return "amount_too_large"
        payment.captured_minor += amount_minor
    else:
        if payment.refunded_minor + amount_minor > payment.captured_minor:
            return "amount_too_large"
        payment.refunded_minor += amount_minor
        number = len(payment.refunds) + 1
        refund = BookedRefund(f"re_{payment.key[:20]}_{number}", amount_minor, key, now)
        payment.refunds = [*payment.refunds, refund]
    if key:
        payment.actions = {**payment.actions, key: amount_minor}
    return ""


def payment_id(key: str) -> str:
    """The provider's own id of the payment with this key."""
    return f"pay_{key[:24]}"
