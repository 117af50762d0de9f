"""The servers of the local stack, through the clients that the product uses."""

import psycopg
import redis
from confluent_kafka.admin import AdminClient, ConfigResource  # type: ignore[attr-defined]

from tests.conftest import Services


def test_postgres_keeps_what_it_commits_and_speaks_utf8(services: Services) -> None:
    """Durability is promised to callers, so no test may run on a server that skips it."""
    with psycopg.connect(services.postgres_url) as connection:
        for setting, expected in {
            "fsync": "on",
            "synchronous_commit": "on",
            "server_encoding": "UTF8",
            "max_connections": "300",
        }.items():
            row = connection.execute("SELECT current_setting(%s)", [setting]).fetchone()
            assert row == (expected,), setting
        assert connection.execute("SELECT upper('é') COLLATE pg_c_utf8").fetchone() == ("É",)


def test_kafka_creates_no_topic_by_itself(services: Services) -> None:
    """A misspelt topic is an error, not a new topic."""
    admin = AdminClient({"bootstrap.servers": services.kafka_bootstrap})
    future = admin.describe_configs([ConfigResource("broker", "1")])
    settings = next(iter(future.values())).result(timeout=60)
    assert settings["auto.create.topics.enable"].value == "false"
    assert settings["message.max.bytes"].value == str(4 * 1024 * 1024)


def test_valkey_answers(services: Services) -> None:
    """Redis's own client speaks to it."""
    with redis.Redis.from_url(services.redis_url) as client:
        assert client.ping()
