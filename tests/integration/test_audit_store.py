"""The audit reads what the product wrote, through code of its own, from a folder and from S3."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from pydantic import SecretStr

from audit.store import open_reader
from runtime.settings import Settings, load
from sinks.object_store.store import open_store
from tests.integration.test_object_store import FakeS3, key_of


@pytest.fixture(params=["folder", "s3"])
async def settings(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Settings]:
    """Of a store of each kind."""
    if request.param == "folder":
        yield load(objects_url=(tmp_path / "objects with spaces").as_uri())
        return
    app = web.Application(client_max_size=2**24)
    app.router.add_route("*", "/{path:.*}", FakeS3().handle)
    async with TestServer(app) as server:
        yield load(
            objects_url="s3://bucket/some/prefix",
            objects_endpoint=str(server.make_url("")).rstrip("/"),
            objects_access_key_id=SecretStr("id"),
            objects_secret_access_key=SecretStr("secret"),
        )


async def test_what_the_product_put_is_read_in_full(settings: Settings) -> None:
    body = os.urandom(700_000)
    await open_store(settings).put_if_absent(key_of(body), body)
    read = open_reader(settings)
    assert await asyncio.to_thread(lambda: b"".join(read(key_of(body)))) == body


async def test_what_is_not_there_is_told_apart_from_a_store_that_fails(settings: Settings) -> None:
    await open_store(settings).put_if_absent(key_of(b"x"), b"x")
    read = open_reader(settings)
    with pytest.raises(FileNotFoundError):
        await asyncio.to_thread(lambda: list(read(key_of(b"y"))))
