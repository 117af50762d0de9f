"""A fake object store: puts fail before or after they are done, and power failures damage objects."""

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from domain.documents import names_content
from sinks.object_store.store import KeyTakenError, StoreUnavailableError
from tests.simulation.sessions import STEP

if TYPE_CHECKING:
    from tests.simulation.cluster import Cluster


class FakeStore:
    """Behaves as `ObjectStore`: put if absent, and replace only objects that differ from their key's hash."""

    def __init__(self, cluster: "Cluster") -> None:
        self._cluster = cluster
        self._objects = cluster.objects

    async def put_all_if_absent(self, objects: Sequence[tuple[str, bytes]]) -> None:
        for key, body in objects:
            await STEP
            if self._cluster.faults_now(3):
                raise StoreUnavailableError("503 before the put")
            await self.put(key, body)
            if self._cluster.faults_now(3):
                raise StoreUnavailableError("503 after the put")
        # Only now are they durable.
        await STEP

    async def put(self, key: str, body: bytes) -> None:
        """Put one object."""
        present = self._objects.get(key)
        if present is None:
            await self.write(key, body)
        elif present != body:
            if names_content(key, hashlib.sha256(present).hexdigest()):
                raise KeyTakenError(key)
            self._objects[key] = body

    async def write(self, key: str, body: bytes) -> None:
        """Write it completely, or only a part of it because of a power failure."""
        if self._cluster.faults_now(10):
            self._cluster.note(f"{key} is torn")
            self._objects[key] = body[:3]
            raise StoreUnavailableError("the power fails")
        self._objects[key] = body
