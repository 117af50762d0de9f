"""What a benchmark found."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Result:
    """One measured value. `target` is what it should reach: at least, or at most where less is better."""

    name: str
    value: float
    #: Such as "orders/s", "ms", "MB".
    unit: str
    #: None: measured to be known, not to be judged.
    target: float | None = None
    less_is_better: bool = False
    #: What the value was made from, such as "median of 5; worst 3.9 s".
    note: str = ""

    @property
    def reached(self) -> bool | None:
        """Whether the target was met; None where there is none."""
        if self.target is None:
            return None
        return self.value <= self.target if self.less_is_better else self.value >= self.target
