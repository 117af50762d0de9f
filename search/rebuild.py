"""A new index from Postgres' rows, with the positions from which it is to follow the topics.

The topics' ends are read first, then the rows, all in one snapshot. So every event before the ends is in the rows; what
comes after them may be in the rows too, and then its version says so.
"""

import logging
from collections.abc import Callable, Iterable
from time import monotonic

import psycopg

from domain.product import skus_of
from domain.reservation import Sku
from runtime.kafka import TopicError, end_offsets, stable_offsets, start_offsets
from runtime.topics import TopicState, describe_topics
from search.changes import TOPICS, given_synonyms, indexed, rating
from search.documents import INDEX_VERSION, Article, Head, Level, Position
from search.index import IndexFolder
from sinks.postgres.migrate import migration_files
from sinks.postgres.schema import require_schema
from sinks.postgres.search_rows import (
    ArticleRow,
    count_rows,
    read_articles,
    read_products,
    read_some_articles,
    read_synonyms,
)

_log = logging.getLogger(__name__)

#: How many rows are done, and of how many; rows that come meanwhile are not counted.
Progress = Callable[[int, int], None]


def rebuild(
    folder: IndexFolder,
    bootstrap: str,
    postgres_url: str,
    on_progress: Progress = lambda done, total: None,
    *,
    for_next_start: bool = False,
) -> int:
    """Build a new index and put it into its place; the number of products and SKUs in it. Blocks.

    Raises `TopicError` or `psycopg.OperationalError` while a service is unavailable, `StartRefusedError` for tables of
    another release, and `FolderInUseError`.
    """
    began = monotonic()
    starts = _starts(bootstrap)
    with psycopg.connect(postgres_url, connect_timeout=10, tcp_user_timeout=10_000) as connection:
        require_schema(connection, [file.name for file in migration_files()])
        connection.rollback()
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.read_only = True
        index = folder.new()
        total = count_rows(connection)
        done = 0
        for rows in read_articles(connection):
            index.put("article", map(_article, rows), is_new=True)
            done += len(rows)
            on_progress(min(done, total), total)
        for events in read_products(connection):
            products = [indexed(event) for event in events]
            skus = [Sku(each.seller_id, sku) for each in products if each.product for sku in skus_of(each.product)]
            articles = {each.key: each for each in map(_article, read_some_articles(connection, skus))}
            for product in products:
                index.put_product(product, articles, is_new=True)
            done += len(products)
            on_progress(min(done, total), total)
        index.put("synonyms", map(given_synonyms, read_synonyms(connection)), is_new=True)
    index.put("head", [Head(INDEX_VERSION)], is_new=True)
    index.put("position", starts, is_new=True)
    index.commit()
    index.close()
    folder.finish(for_next_start=for_next_start)
    _log.info("the search index was built of %d rows in %.1f s", done, monotonic() - began)
    return done


def why_unusable(positions: Iterable[Position], bootstrap: str) -> str | None:
    """Why the topics can't be followed from these positions; None if they can. Blocks. Raises `TopicError`."""
    known = {(each.topic, each.partition): each for each in positions}
    topics = _topics(bootstrap)
    wanted = {(name, number) for name, topic in topics.items() for number in range(topic.partitions)}
    if known.keys() != wanted:
        return "it has positions in other partitions than the topics have"
    starts, ends = start_offsets(bootstrap, wanted), end_offsets(bootstrap, wanted)
    for place, position in sorted(known.items()):
        name = "/".join(map(str, place))
        if position.topic_id != topics[position.topic].topic_id or position.next_offset > ends[place]:
            return f"the topic was recreated, or has lost records: its position in {name} is {position.next_offset}"
        if position.next_offset < starts[place]:
            return f"the records of {name} from {position.next_offset} on are deleted: it was not followed for too long"
    return None


def _topics(bootstrap: str) -> dict[str, TopicState]:
    """The topics to follow. Raises `TopicError` also while a broker that has just started does not know them."""
    topics = describe_topics(bootstrap, [topic.name for topic in TOPICS])
    if missing := [topic.name for topic in TOPICS if topic.name not in topics]:
        raise TopicError(f"the brokers don't know {', '.join(missing)}, or not yet: `gapless topics` makes them")
    return topics


def _starts(bootstrap: str) -> list[Position]:
    topics = _topics(bootstrap)
    places = [(name, number) for name, topic in topics.items() for number in range(topic.partitions)]
    ends = stable_offsets(bootstrap, places)
    return [Position(name, number, ends[name, number], topics[name].topic_id) for name, number in places]


def _article(row: ArticleRow) -> Article:
    level = None if row.stock_version is None else Level(row.available or 0, row.stock_version)
    stars = (row.one or 0, row.two or 0, row.three or 0, row.four or 0, row.five or 0)
    rated = None if row.rating_version is None else rating(stars, row.rating_version)
    return Article(row.seller_id, row.sku, level, rated)
