"""A worker's index: a folder that holds documents and positions, and is written in whole commits."""

import fcntl
import json
import logging
import shutil
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import msgspec
from tantivy import DocAddress, Index, IndexWriter, Query, Searcher

from search.documents import (
    HEAD,
    INDEX_VERSION,
    Article,
    GivenSynonyms,
    Head,
    IndexedProduct,
    Position,
    Shown,
    article_key,
    make_schema,
    plain_document,
    product_document,
    synonyms_key,
)

_log = logging.getLogger(__name__)

#: Memory of the writer; what exceeds it goes to disk before its commit.
_WRITER_BYTES = 64 * 1024 * 1024
#: Keys of one question to the index.
_KEYS_MAX = 1_000
#: Topics times their partitions.
_POSITIONS_MAX = 10_000
#: In a worker's folder: the index that it uses, one that is being built, one that was built for its next start, and the
#: last one that was set aside.
_INDEX, _BUILDING, _REBUILT, _SET_ASIDE = "index", "building", "rebuilt", "set-aside"

#: Files that end with their checksum.
_CHECKED = frozenset((".fast", ".store", ".pos", ".fieldnorm", ".term", ".idx", ".del"))
SCHEMA = make_schema()


class UnusableIndexError(Exception):
    """There is no index in the folder, or none that this release can use; the message says why."""


class FolderInUseError(Exception):
    """Another process uses the folder, or builds an index in it."""


class IndexFolder:
    """A worker's folder on disk."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._locks: dict[str, IO[bytes]] = {}

    @property
    def index(self) -> Path:
        """Where the index is."""
        return self._folder / _INDEX

    def lock(self) -> None:
        """Keep other workers out, while this process lives. Raises `FolderInUseError`."""
        self._lock("worker")

    def close(self) -> None:
        """Let others in."""
        while self._locks:
            self._locks.popitem()[1].close()

    def set_aside(self, why: str) -> None:
        """Keep the index for whoever wants to know what is wrong with it, in place of the one set aside before."""
        if not self.index.exists():
            _log.info("%s", why)
            return
        kept = self._folder / _SET_ASIDE
        shutil.rmtree(kept, ignore_errors=True)
        self.index.rename(kept)
        _log.warning("the search index is set aside in %s and rebuilt: %s", kept, why)

    def new(self) -> "CatalogueIndex":
        """An empty index, which counts only once `finish` has put it into its place."""
        self._lock("building")
        building = self._folder / _BUILDING
        shutil.rmtree(building, ignore_errors=True)
        building.mkdir(parents=True)
        return CatalogueIndex(Index(SCHEMA, path=str(building)))

    def finish(self, *, for_next_start: bool = False) -> None:
        """Put the new index, which is committed, into its place; or leave it for the worker's next start."""
        place = self._folder / (_REBUILT if for_next_start else _INDEX)
        shutil.rmtree(place, ignore_errors=True)
        (self._folder / _BUILDING).rename(place)
        self._locks.pop("building").close()

    def take_rebuilt(self) -> None:
        """Use the index that was built while no worker, or another process, used the one that is there."""
        rebuilt = self._folder / _REBUILT
        if rebuilt.exists():
            shutil.rmtree(self.index, ignore_errors=True)
            rebuilt.rename(self.index)

    def open(self) -> "CatalogueIndex":
        """The index in its place. Raises `UnusableIndexError`."""
        if not (self.index.is_dir() and Index.exists(str(self.index))):
            raise UnusableIndexError("there is no search index yet: it is built from Postgres")
        try:
            _check_files(self.index)
            return CatalogueIndex.opened(self.index)
        except UnusableIndexError:
            raise
        # The library panics on some damaged files, and its panic is no Exception.
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt | SystemExit):
                raise
            raise UnusableIndexError(f"it is damaged: {' '.join(str(error).split())[:200]}") from None

    def _lock(self, what: str) -> None:
        if what in self._locks:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        file = (self._folder / f"{what}.lock").open("ab")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            raise FolderInUseError(f"another process has {self._folder}/{what}.lock") from None
        self._locks[what] = file


class CatalogueIndex:
    """Documents and positions. One thread writes; any may search, in the state of the last commit."""

    def __init__(self, index: Index) -> None:
        # Who searches takes `searcher`: reloading is the writer's.
        index.config_reader(reload_policy="manual")
        self._index = index
        self._writer: IndexWriter | None = None
        self.searcher: Searcher = index.searcher()

    @classmethod
    def opened(cls, folder: Path) -> "CatalogueIndex":
        """An index that is there. Raises `UnusableIndexError`, and whatever the library raises for damaged files."""
        made = cls(Index.open(str(folder)))
        # First the version: an older index may lack fields that are asked for otherwise.
        [head] = made._sources(_any_of("key", [HEAD])) or [b"{}"]
        version = msgspec.json.decode(head).get("version")
        if version != INDEX_VERSION:
            raise UnusableIndexError(f"it is of version {version}, and this release makes version {INDEX_VERSION}")
        for each in made._sources(Query.all_query(), limit=1):
            msgspec.json.decode(each)
        return made

    def positions(self) -> list[Position]:
        """Up to where it accounts for each partition."""
        found = self._sources(Query.term_query(SCHEMA, "kind", "position", "basic"), limit=_POSITIONS_MAX)
        return [msgspec.json.decode(each, type=Position) for each in found]

    def products(self, keys: Collection[str], field: str = "key") -> dict[str, Shown]:
        """The products with these keys, or that sell these articles (`sells`), by their key."""
        found = [msgspec.json.decode(each, type=Shown) for each in self._of_keys(field, keys)]
        return {each.product.key: each for each in found}

    def articles(self, keys: Collection[str]) -> dict[str, Article]:
        """What is known of these SKUs, by key."""
        found = [msgspec.json.decode(each, type=Article) for each in self._of_keys("key", keys)]
        return {each.key: each for each in found}

    def synonyms(self, seller_ids: Iterable[str]) -> dict[str, GivenSynonyms]:
        """The synonyms of those of the sellers that have given some, by seller."""
        found = self._of_keys("key", [synonyms_key(each) for each in seller_ids])
        given = [msgspec.json.decode(each, type=GivenSynonyms) for each in found]
        return {each.seller_id: each for each in given}

    def put_product(self, product: IndexedProduct, articles: Mapping[str, Article], *, is_new: bool = False) -> None:
        """Write a product's document; `articles` by key. A new one replaces none, which saves a look-up."""
        skus = [] if product.product is None else [variant["sku"] for variant in product.product["variants"]]
        known = {sku: found for sku in skus if (found := articles.get(article_key(product.seller_id, sku)))}
        self._put(product.key, product_document(product, known), is_new=is_new)

    def put(
        self, kind: str, sources: Iterable[Article | GivenSynonyms | Position | Head], *, is_new: bool = False
    ) -> None:
        """Write documents of what is no product: `article`, `synonyms`, `position` or `head`."""
        for source in sources:
            self._put(source.key, plain_document(kind, source), is_new=is_new)

    def commit(self) -> None:
        """Make all that was put durable and visible at once, or none of it."""
        if self._writer is None:
            return
        self._writer.commit()
        self._index.reload()
        self.searcher = self._index.searcher()

    def close(self) -> None:
        """Let go of the folder; what was not committed is lost."""
        if self._writer is not None:
            self._writer.wait_merging_threads()
            self._writer = None

    def _put(self, key: str, document: Any, *, is_new: bool) -> None:
        if self._writer is None:
            # Takes the folder's lock. One thread: documents of one commit are few, and searches need the cores.
            self._writer = self._index.writer(_WRITER_BYTES, num_threads=1)
        if not is_new:
            self._writer.delete_documents_by_term("key", key)
        self._writer.add_document(document)

    def _of_keys(self, field: str, keys: Collection[str]) -> Iterator[bytes]:
        wanted = list(keys)
        for first in range(0, len(wanted), _KEYS_MAX):
            # While a SKU moves from one product to another, both may have it.
            yield from self._sources(_any_of(field, wanted[first : first + _KEYS_MAX]), limit=2 * _KEYS_MAX)

    def _sources(self, query: Query, limit: int = _KEYS_MAX) -> list[bytes]:
        searcher = self.searcher
        return [source_of(searcher, at) for _, at in searcher.search(query, limit=limit, count=False).hits]


def _check_files(folder: Path) -> None:
    """Compare the files of the last commit with their checksums. Raises `UnusableIndexError`, `OSError`, `ValueError`.

    The library checks what it reads only by its form: a wrong byte would be found as a wrong product.
    """
    meta = json.loads((folder / "meta.json").read_bytes())
    for segment in meta["segments"]:
        name = segment["segment_id"].replace("-", "")
        deletes = segment["deletes"]
        for path in folder.glob(f"{name}.*"):
            # Those of other commits don't count, and may be incomplete.
            if path.suffix == ".del" and (deletes is None or path.name != f"{name}.{deletes['opstamp']}.del"):
                continue
            if path.suffix in _CHECKED and not _is_whole(path.read_bytes()):
                raise UnusableIndexError(f"it is damaged: {path.name} differs from its checksum")


def _is_whole(content: bytes) -> bool:
    """Whether the file's footer, in JSON before its own length and a magic number, has the checksum of the rest."""
    length = int.from_bytes(content[-8:-4], "little")
    footer = json.loads(content[-8 - length : -8])
    return bool(footer["crc"] == zlib.crc32(content[: -8 - length]))


def source_of(searcher: Searcher, at: DocAddress) -> bytes:
    """A document's source."""
    return bytes(searcher.doc(at)["source"][0])


def _any_of(field: str, values: list[str]) -> Query:
    return Query.term_set_query(SCHEMA, field, values)
