"""The object store: a folder or S3. Stored objects are durable, and are never replaced by other content."""

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, NotFoundError
from obstore.store import LocalStore, S3Store

from domain.documents import names_content
from runtime.settings import Settings

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig, S3Config

#: Concurrent puts: enough to hide network latency, and few enough for a server's limits.
_CONCURRENT_PUTS_MAX = 32
#: The same into a folder, whose lock each new file takes: 32 at once spend a millisecond of CPU each on waiting for it.
_CONCURRENT_FILES_MAX = 2
#: Concurrent fsyncs: a journaling file system commits concurrent ones together.
_CONCURRENT_FSYNCS_MAX = 16
#: A longer put is an outage, which the agent retries in place and reports.
_REQUEST_TIMEOUT = timedelta(seconds=15)
_RETRY_TIMEOUT = timedelta(seconds=30)
_RETRIES_MAX = 3


class StoreUnavailableError(Exception):
    """The object store can't be reached, or refuses the request; the message says why."""


class NotStoredError(LookupError):
    """The object does not exist."""


class KeyTakenError(Exception):
    """Another intact object has this key: a bug, since keys contain the hash of their content."""


#: Errors that agents retry in place.
STORE_OUTAGES: tuple[type[Exception], ...] = (StoreUnavailableError,)


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object's key and size."""

    key: str
    size_bytes: int


def open_store(settings: Settings) -> "ObjectStore":
    """The store that the settings name: `file:///folder` or `s3://bucket/prefix`.

    Raises `ValueError` for any other URL, and `StoreUnavailableError` if the folder can't be created.
    """
    url = urlsplit(settings.objects_url)
    if url.scheme == "file" and url.netloc in {"", "localhost"} and url.path:
        root = Path(unquote(url.path))
        try:
            _make_folders(root)
        except OSError as error:
            raise StoreUnavailableError(f"the folder of objects: {error}") from error
        return ObjectStore(LocalStore(root), root)
    if url.scheme == "s3" and url.netloc:
        return ObjectStore(_open_s3(settings, url.netloc, unquote(url.path).strip("/")), None)
    raise ValueError("objects_url must be file:///folder or s3://bucket/prefix")


def _open_s3(settings: Settings, bucket: str, prefix: str) -> S3Store:
    config: S3Config = {
        "bucket": bucket,
        "region": settings.objects_region,
        # Put-if-absent uses S3's `If-None-Match: *`.
        "conditional_put": "etag",
    }
    if settings.objects_endpoint is not None:
        config["endpoint"] = settings.objects_endpoint
        # Servers other than AWS expect the bucket in the path.
        config["virtual_hosted_style_request"] = False
    # Without keys, the role of the machine or pod is used.
    if settings.objects_access_key_id is not None:
        config["access_key_id"] = settings.objects_access_key_id.get_secret_value()
    if settings.objects_secret_access_key is not None:
        config["secret_access_key"] = settings.objects_secret_access_key.get_secret_value()
    client: ClientConfig = {
        "timeout": _REQUEST_TIMEOUT,
        "connect_timeout": timedelta(seconds=5),
        "allow_http": (settings.objects_endpoint or "").startswith("http://"),
    }
    retries: RetryConfig = {"max_retries": _RETRIES_MAX, "retry_timeout": _RETRY_TIMEOUT}
    return S3Store(prefix=prefix or None, config=config, client_options=client, retry_config=retries)


class ObjectStore:
    """Objects by key. Each key contains the hash of its content, so putting again is harmless."""

    def __init__(self, store: LocalStore | S3Store, root: Path | None) -> None:
        self._store = store
        #: The folder; None for S3.
        self._root = root
        self._synced_folders: set[Path] = set()

    async def put_if_absent(self, key: str, body: bytes) -> None:
        """Store `body`; it is durable on return. See `put_all_if_absent`."""
        await self.put_all_if_absent([(key, body)])

    async def put_all_if_absent(self, objects: Sequence[tuple[str, bytes]]) -> None:
        """Store each body under its key unless it exists already; all are durable on return.

        An existing object that differs from its key's hash was torn by a power failure, and is replaced atomically.
        Raises `StoreUnavailableError`, after which any of them may be stored; `KeyTakenError`; and `ValueError` for a
        key that does not contain its content's hash.
        """
        for key, body in objects:
            if not names_content(key, hashlib.sha256(body).hexdigest()):
                raise ValueError(f"{key!r} doesn't hold the hash of its content")
        gate = asyncio.Semaphore(_CONCURRENT_PUTS_MAX if self._root is None else _CONCURRENT_FILES_MAX)
        await _all(self._put(key, body, gate) for key, body in objects)
        if self._root is not None and objects:
            await self._sync(self._root, [self._root / key for key, _ in objects])

    async def get(self, key: str) -> bytes:
        """The object's content. Raises `NotStoredError`, `StoreUnavailableError`."""
        try:
            result = await obstore.get_async(self._store, key)
            return bytes(await result.bytes_async())
        except (NotFoundError, FileNotFoundError):
            raise NotStoredError(key) from None
        except (BaseError, OSError) as error:
            raise _unavailable("get", error) from error

    async def head(self, key: str) -> StoredObject | None:
        """The object's size; None if it does not exist. Raises `StoreUnavailableError`."""
        try:
            meta = await obstore.head_async(self._store, key)
        except (NotFoundError, FileNotFoundError):
            return None
        except (BaseError, OSError) as error:
            raise _unavailable("head", error) from error
        return StoredObject(key, meta["size"])

    async def list(self, prefix: str | None = None) -> AsyncIterator[StoredObject]:
        """All objects under a folder, unordered. Raises `StoreUnavailableError`."""
        try:
            async for chunk in obstore.list(self._store, prefix, chunk_size=1_000):
                for meta in chunk:
                    yield StoredObject(meta["path"], meta["size"])
        except (BaseError, OSError) as error:
            raise _unavailable("list", error) from error

    async def _put(self, key: str, body: bytes, gate: asyncio.Semaphore) -> None:
        async with gate:
            try:
                await obstore.put_async(self._store, key, body, mode="create", use_multipart=False)
            except (AlreadyExistsError, FileExistsError):
                await self._check_present(key, body)
            except (BaseError, OSError) as error:
                raise _unavailable("put", error) from error

    async def _check_present(self, key: str, body: bytes) -> None:
        present = await self.get(key)
        if present == body:
            return
        if names_content(key, hashlib.sha256(present).hexdigest()):
            raise KeyTakenError(key)
        try:
            # The store writes a temporary object and renames it, so readers never see a part.
            await obstore.put_async(self._store, key, body, mode="overwrite", use_multipart=False)
        except (BaseError, OSError) as error:
            raise _unavailable("put", error) from error

    async def _sync(self, root: Path, files: Iterable[Path]) -> None:
        """Flush files, their folders and new folders above: a file is lost if its folder's entry is not durable."""
        files = list(dict.fromkeys(files))
        folders = {file.parent for file in files}
        above = {folder for file in files for folder in file.parents if folder.is_relative_to(root)} - folders
        try:
            await _in_threads(files)
            await _in_threads(folders | (above - self._synced_folders))
        except OSError as error:
            raise _unavailable("fsync", error) from error
        self._synced_folders |= above | folders


async def _all(puts: Iterable[object]) -> None:
    # Await all before raising the first error, so that no put continues in the background while the caller retries.
    results = await asyncio.gather(*puts, return_exceptions=True)  # type: ignore[call-overload]
    for result in results:
        if isinstance(result, BaseException):
            raise result


async def _in_threads(paths: Iterable[Path]) -> None:
    ordered = list(paths)
    shares = [ordered[start::_CONCURRENT_FSYNCS_MAX] for start in range(min(_CONCURRENT_FSYNCS_MAX, len(ordered)))]
    await _all(asyncio.to_thread(_fsync_all, share) for share in shares)


def _fsync_all(paths: Iterable[Path]) -> None:
    for path in paths:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _make_folders(root: Path) -> None:
    missing = [folder for folder in (root, *root.parents) if not folder.exists()]
    root.mkdir(parents=True, exist_ok=True)
    # A folder is only durable if its entry in the parent folder is.
    _fsync_all(folder.parent for folder in missing)


def _unavailable(doing: str, error: Exception) -> StoreUnavailableError:
    # The first line only: obstore appends debug output, and S3 a page of XML.
    return StoreUnavailableError(f"{doing}: {(str(error) or type(error).__name__).splitlines()[0][:300]}")
