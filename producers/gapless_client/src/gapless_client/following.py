"""Reads the stream of an order's changes, line by line."""

import json
from typing import Any

#: Between two streams: the gateway asks for it too.
PAUSE_S = 2.0


class Following:
    """Where a client stands in an order's changes."""

    def __init__(self) -> None:
        #: Of the last event that was complete; what came after it is sent again.
        self.last_id = ""
        self._id = ""
        self._data = ""

    def begin(self) -> None:
        """A new stream begins: what the one before has left incomplete is void."""
        self._id = self._data = ""

    def read(self, line: str) -> Any | None:
        """The order, where this line completes an event; None for all other lines."""
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "id":
            self._id = value
        elif name == "data":
            self._data += value
        elif not line and self._data:
            order = json.loads(self._data)
            self.last_id = self._id
            self.begin()
            return order
        return None
