"""The S3 server of the chaos tests, used by the product's own store, with and without faults."""

import hashlib
from collections.abc import Iterator

import pytest

from chaos.object_store import Mood, ObjectServer
from local.layout import settings_from
from sinks.object_store.store import NotStoredError, ObjectStore, StoreUnavailableError, open_store

BODY = b"a document"
KEY = f"demo/2026/INV-1/{hashlib.sha256(BODY).hexdigest()}.pdf"


@pytest.fixture
def server() -> Iterator[ObjectServer]:
    with ObjectServer() as made:
        yield made


@pytest.fixture
def store(server: ObjectServer) -> ObjectStore:
    return open_store(settings_from(server.environment()))


async def test_what_was_put_is_there_and_putting_it_again_changes_nothing(
    server: ObjectServer, store: ObjectStore
) -> None:
    with pytest.raises(NotStoredError):
        await store.get(KEY)
    await store.put_if_absent(KEY, BODY)
    await store.put_if_absent(KEY, BODY)
    assert await store.get(KEY) == BODY
    assert [(each.key, each.size_bytes) async for each in store.list()] == [(KEY, len(BODY))]
    assert (server.again, server.changed) == (1, [])


async def test_a_put_that_is_done_and_not_answered_is_found_done(server: ObjectServer, store: ObjectStore) -> None:
    server.mood = Mood(forgets_to_answer=0.5)
    await store.put_if_absent(KEY, BODY)
    server.mood = Mood()
    assert await store.get(KEY) == BODY


async def test_a_server_that_refuses_everything_is_an_outage(server: ObjectServer, store: ObjectStore) -> None:
    server.mood = Mood(refuses=1.0)
    with pytest.raises(StoreUnavailableError):
        await store.put_if_absent(KEY, BODY)
    assert server.objects == {}
