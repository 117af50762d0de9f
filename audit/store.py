"""Reads the object store, independently of the code that writes it."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import BaseError, NotFoundError
from obstore.store import LocalStore, S3Store

from audit.report import AuditError
from runtime.settings import Settings

if TYPE_CHECKING:
    from obstore.store import ClientConfig, S3Config

_CHUNK_BYTES = 256 * 1024


def open_reader(settings: Settings) -> Callable[[str], Iterator[bytes]]:
    """Return a function that yields an object's bytes by its key.

    The function raises `FileNotFoundError` for a missing object, `AuditError` if the store can't be read.
    """
    store = _open(settings)

    def read(key: str) -> Iterator[bytes]:
        try:
            for chunk in obstore.get(store, key).stream(min_chunk_size=_CHUNK_BYTES):
                yield bytes(chunk)
        except (FileNotFoundError, NotFoundError):
            raise FileNotFoundError(key) from None
        except (BaseError, OSError) as error:
            raise AuditError(f"the object store can't be read: {next(iter(str(error).splitlines()), '')}") from None

    return read


def open_sizes(settings: Settings) -> Callable[[str], int]:
    """Return a function for an object's size in bytes, without reading it; it raises as `open_reader`'s does."""
    store = _open(settings)

    def size(key: str) -> int:
        try:
            return int(obstore.head(store, key)["size"])
        except (FileNotFoundError, NotFoundError):
            raise FileNotFoundError(key) from None
        except (BaseError, OSError) as error:
            raise AuditError(f"the object store can't be read: {next(iter(str(error).splitlines()), '')}") from None

    return size


def _open(settings: Settings) -> LocalStore | S3Store:
    url = urlsplit(settings.objects_url)
    if url.scheme == "file":
        folder = Path(unquote(url.path))
        if not folder.is_dir():
            raise AuditError(f"the object store can't be read: there is no folder {folder}")
        return LocalStore(folder)
    config: S3Config = {"bucket": url.netloc, "region": settings.objects_region}
    if settings.objects_endpoint is not None:
        config["endpoint"] = settings.objects_endpoint
        # Servers other than AWS expect the bucket in the path.
        config["virtual_hosted_style_request"] = False
    if settings.objects_access_key_id is not None:
        config["access_key_id"] = settings.objects_access_key_id.get_secret_value()
    if settings.objects_secret_access_key is not None:
        config["secret_access_key"] = settings.objects_secret_access_key.get_secret_value()
    client: ClientConfig = {"allow_http": (settings.objects_endpoint or "").startswith("http://")}
    return S3Store(prefix=unquote(url.path).strip("/") or None, config=config, client_options=client)
