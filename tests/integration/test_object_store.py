"""The object store in a real folder, and over HTTP with a server that implements the needed part of S3."""

import asyncio
import hashlib
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import obstore
import pytest
from aiohttp import web
from pydantic import SecretStr

from domain.documents import document_key
from runtime.settings import Settings, SettingsError, load
from sinks.object_store import store as module
from sinks.object_store.store import (
    STORE_OUTAGES,
    KeyTakenError,
    NotStoredError,
    ObjectStore,
    StoreUnavailableError,
    open_store,
)


def key_of(body: bytes, number: str = "A-1") -> str:
    return document_key("acme", "2026", number, hashlib.sha256(body).hexdigest())


class FakeS3:
    """A bucket in memory with S3's answers to put, put if absent, get and head."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.failing = False

    async def handle(self, request: web.Request) -> web.Response:
        if self.failing:
            return web.Response(status=403, text="<Error><Code>AccessDenied</Code></Error>")
        key = request.path.removeprefix("/bucket/")
        if request.method == "PUT":
            if request.headers.get("If-None-Match") == "*" and key in self.objects:
                return web.Response(status=412, text="<Error><Code>PreconditionFailed</Code></Error>")
            self.objects[key] = await request.read()
            return web.Response(headers={"ETag": '"1"'})
        if key not in self.objects:
            return web.Response(status=404, text="<Error><Code>NoSuchKey</Code></Error>")
        headers = {"ETag": '"1"', "Last-Modified": "Sat, 21 Nov 2026 09:40:00 GMT"}
        return web.Response(body=self.objects[key], headers=headers)


@pytest.fixture
async def s3() -> AsyncIterator[tuple[FakeS3, Settings]]:
    """A server, and settings with its address."""
    server = FakeS3()
    app = web.Application(client_max_size=2**24)
    app.router.add_route("*", "/{path:.*}", server.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    yield (
        server,
        load(
            objects_url="s3://bucket/some/prefix",
            objects_endpoint=f"http://127.0.0.1:{port}",
            objects_access_key_id=SecretStr("id"),
            objects_secret_access_key=SecretStr("secret"),
        ),
    )
    await runner.cleanup()


@pytest.fixture(params=["folder", "s3"])
async def store(request: pytest.FixtureRequest, tmp_path: Path, s3: tuple[FakeS3, Settings]) -> ObjectStore:
    if request.param == "s3":
        return open_store(s3[1])
    return open_store(load(objects_url=f"file://{tmp_path}/objects"))


@pytest.fixture
def folder(tmp_path: Path) -> tuple[ObjectStore, Path]:
    root = tmp_path / "deep" / "objects with spaces"
    return open_store(load(objects_url=f"file://{tmp_path!s}/deep/objects%20with%20spaces")), root


async def test_what_was_put_is_there(store: ObjectStore) -> None:
    """Byte for byte, with its size."""
    body = os.urandom(100_000)
    await store.put_if_absent(key_of(body), body)
    assert await store.get(key_of(body)) == body
    head = await store.head(key_of(body))
    assert head is not None
    assert head.size_bytes == len(body)


async def test_what_was_never_put_is_not_there(store: ObjectStore) -> None:
    """`head` returns None, and `get` raises."""
    assert await store.head(key_of(b"x")) is None
    with pytest.raises(NotStoredError):
        await store.get(key_of(b"x"))


async def test_putting_again_is_harmless(store: ObjectStore) -> None:
    """As by a worker that was killed between the put and its row."""
    await store.put_if_absent(key_of(b"x"), b"x")
    await store.put_if_absent(key_of(b"x"), b"x")
    assert await store.get(key_of(b"x")) == b"x"


async def test_a_batch_is_put_at_once_and_may_repeat_itself(store: ObjectStore) -> None:
    """More than are put concurrently, each once."""
    bodies = [f"document {place}".encode() for place in range(200)]
    await store.put_all_if_absent([(key_of(body), body) for body in [*bodies, *bodies[:50]]])
    for body in bodies:
        assert await store.get(key_of(body)) == body


async def test_a_folder_is_given_two_files_at_a_time(
    folder: tuple[ObjectStore, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """More would wait for the folder's lock, and spend a millisecond of CPU on it each."""
    under_way: list[int] = []
    put = obstore.put_async

    async def counted(*arguments: Any, **options: Any) -> Any:
        under_way.append(under_way[-1] + 1 if under_way else 1)
        try:
            return await put(*arguments, **options)
        finally:
            under_way.append(under_way[-1] - 1)

    monkeypatch.setattr(obstore, "put_async", counted)
    bodies = [f"document {place}".encode() for place in range(50)]
    await folder[0].put_all_if_absent([(key_of(body), body) for body in bodies])
    assert max(under_way) == 2


async def test_a_key_must_hold_the_hash_of_its_content(store: ObjectStore) -> None:
    """Otherwise a retry could not distinguish a torn object from another customer's."""
    with pytest.raises(ValueError, match="hash"):
        await store.put_if_absent(key_of(b"x"), b"y")
    assert await store.head(key_of(b"x")) is None


@pytest.mark.parametrize("torn", [b"", b"docu", b"\0" * 12])
async def test_a_file_torn_by_a_power_cut_is_replaced(folder: tuple[ObjectStore, Path], torn: bytes) -> None:
    """The object's name was durable before its content."""
    store, root = folder
    body = b"document one"
    path = root / key_of(body)
    path.parent.mkdir(parents=True)
    path.write_bytes(torn)
    await store.put_if_absent(key_of(body), body)
    assert path.read_bytes() == body


async def test_an_intact_object_of_another_is_never_replaced(
    folder: tuple[ObjectStore, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """If two documents ever have the same part of the hash in their keys, the first is preserved."""
    store, root = folder
    monkeypatch.setattr(module, "names_content", lambda key, sha256: True)
    await store.put_if_absent("invoices/acme/2026/1-0.pdf", b"first")
    with pytest.raises(KeyTakenError):
        await store.put_if_absent("invoices/acme/2026/1-0.pdf", b"second")
    assert (root / "invoices/acme/2026/1-0.pdf").read_bytes() == b"first"


async def test_a_file_and_its_folders_are_flushed_before_the_put_returns(
    folder: tuple[ObjectStore, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each once, files first, and folders above only the first time; also if the file existed already."""
    store, root = folder
    flushed: list[Path] = []
    real = os.fsync

    def fsync(handle: int) -> None:
        flushed.append(Path(f"/proc/self/fd/{handle}").readlink())
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    keys = [key_of(b"x", "1"), key_of(b"x", "2")]
    year = root / "invoices/acme/2026"
    await store.put_all_if_absent([(key, b"x") for key in keys])
    assert set(flushed[:2]) == {root / key for key in keys}
    assert sorted(flushed[2:]) == sorted([root, root / "invoices", root / "invoices/acme", year])
    flushed.clear()
    await store.put_if_absent(keys[0], b"x")
    assert flushed == [root / keys[0], year]


async def test_flushing_does_not_hold_up_the_event_loop(
    folder: tuple[ObjectStore, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk may take a second for it."""
    store, _ = folder
    monkeypatch.setattr(os, "fsync", lambda _: time.sleep(1.5))
    putting = asyncio.ensure_future(store.put_if_absent(key_of(b"x"), b"x"))
    longest = 0.0
    while not putting.done():
        before = time.monotonic()
        await asyncio.sleep(0.001)
        longest = max(longest, time.monotonic() - before)
    await putting
    assert longest < 1.5


async def test_all_objects_are_listed(folder: tuple[ObjectStore, Path]) -> None:
    """Below a folder, with their sizes."""
    store, _ = folder
    await store.put_all_if_absent([(key_of(b"x", str(place)), b"x") for place in range(3)])
    listed = [(stored.key, stored.size_bytes) async for stored in store.list("invoices/acme")]
    assert sorted(listed) == sorted((key_of(b"x", str(place)), 1) for place in range(3))
    assert [stored async for stored in store.list("invoices/other")] == []


async def test_a_folder_that_cannot_be_written_is_an_outage(folder: tuple[ObjectStore, Path]) -> None:
    """A file is where the seller's folder should be: the agent waits and reports it."""
    store, root = folder
    (root / "invoices").write_bytes(b"")
    with pytest.raises(STORE_OUTAGES):
        await store.put_if_absent(key_of(b"x"), b"x")


async def test_a_server_that_refuses_is_an_outage(s3: tuple[FakeS3, Settings]) -> None:
    """The error contains no secret."""
    server, settings = s3
    store = open_store(settings)
    server.failing = True
    with pytest.raises(StoreUnavailableError) as caught:
        await store.put_if_absent(key_of(b"x"), b"x")
    assert "secret" not in str(caught.value)
    server.failing = False
    await store.put_if_absent(key_of(b"x"), b"x")
    assert list(server.objects) == [f"some/prefix/{key_of(b'x')}"]


@pytest.mark.parametrize("url", ["", "objects", "file://host/objects", "ftp://host/x", "s3://", "file://"])
def test_a_url_that_names_no_store_is_refused(url: str) -> None:
    """At the start, not at the first document."""
    with pytest.raises(SettingsError, match=r"GAPLESS_OBJECTS_URL: .*must be file:///folder or s3://bucket/prefix"):
        load(objects_url=url)
