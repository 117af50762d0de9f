"""The object store as the audit reads it, apart from the code that writes it."""

from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, S3Store

from runtime.settings import Settings
from sinks.audit.report import AuditError

_CHUNK_BYTES = 256 * 1024


def open_reader(settings: Settings) -> Callable[[str], Iterator[bytes]]:
    """A function that yields an object's bytes by its key.

    It raises `FileNotFoundError` for an object that is not there, `AuditError` if the store can't be read.
    """
    store = _open(settings)

    def read(key: str) -> Iterator[bytes]:
        try:
            for chunk in obstore.get(store, key).stream(min_chunk_size=_CHUNK_BYTES):
                yield bytes(chunk)
        except FileNotFoundError:
            raise FileNotFoundError(key) from None
        except BaseError as error:
            raise AuditError(f"the object store can't be read: {next(iter(str(error).splitlines()), '')}") from None

    return read


def _open(settings: Settings) -> LocalStore | S3Store:
    url = urlsplit(settings.objects_url)
    if url.scheme == "file":
        folder = Path(unquote(url.path))
        if not folder.is_dir():
            raise AuditError(f"the object store can't be read: there is no folder {folder}")
        return LocalStore(folder)
    if url.scheme != "s3":
        raise AuditError(f"GAPLESS_OBJECTS_URL: {url.scheme or 'it'} is neither file:// nor s3://")
    config: dict[str, str] = {"region": settings.objects_region}
    if settings.objects_endpoint is not None:
        config["endpoint"] = settings.objects_endpoint
    if settings.objects_access_key_id is not None and settings.objects_secret_access_key is not None:
        config["access_key_id"] = settings.objects_access_key_id.get_secret_value()
        config["secret_access_key"] = settings.objects_secret_access_key.get_secret_value()
    allow_http = (settings.objects_endpoint or "").startswith("http://")
    return S3Store(
        url.netloc,
        prefix=url.path.strip("/") or None,
        config=config,  # type: ignore[arg-type]
        client_options={"allow_http": allow_http},
    )
