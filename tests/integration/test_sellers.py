"""Sellers, their numbering, logos and keys, in a real ledger and through the command line."""

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from click.testing import CliRunner, Result

from documents.render import render
from gapless import admin
from runtime.settings import SettingsError
from sinks.postgres import sellers
from sinks.postgres.sellers import SellerError, SellerRow
from tests.invoice_events import issued
from tests.unit.documents.test_render import noise, picture

ACME = SellerRow("acme", "Acme SARL", "1 Main St", "Lyon", "69001", "FR", time_zone="Europe/Paris")
PNG, OTHER_PNG = picture("RGB", "PNG"), picture("RGBA", "PNG")
#: A picture of noise, which can't be compressed: about 470 KiB.
LARGE_PNG = noise(400)
KEY = "k" * 40


@pytest.fixture
async def connection(ledger_url: str) -> AsyncIterator[sellers.Connection]:
    """A connection to the test's ledger."""
    async with await psycopg.AsyncConnection.connect(ledger_url, autocommit=True) as made:
        yield made


async def test_a_seller_is_what_was_written_with_its_default_format(connection: sellers.Connection) -> None:
    """It exists once."""
    made = await sellers.create(connection, ACME)
    assert made == replace(ACME, number_format="INV-{partition:02d}-{number:08d}")
    assert await sellers.read(connection, "acme") == made
    with pytest.raises(SellerError, match="exists already"):
        await sellers.create(connection, ACME)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"seller_id": "Acme"}, "no seller id"),
        ({"seller_id": "a:b"}, "no seller id"),
        ({"seller_id": ""}, "no seller id"),
        ({"legal_name": " "}, "legal_name"),
        ({"legal_name": "a\nb"}, "legal_name"),
        ({"country": "XX"}, "ISO 3166"),
        ({"country": "fr"}, "ISO 3166"),
        ({"time_zone": "Mars/Olympus"}, "time zone"),
        ({"numbering_policy": "none"}, "policy"),
        ({"number_format": "INV-{number}"}, "partition"),
        ({"number_format": "{partition}1{number}"}, "between two fields"),
        ({"number_format": "F.{partition}-{number}"}, "BR-FR-02"),
        ({"number_format": "{partition}-{number:036d}"}, "BR-FR-01"),
        ({"vat_id": "x" * 201}, "vat_id"),
    ],
)
async def test_what_an_invoice_could_not_carry_is_refused(
    connection: sellers.Connection, changes: dict[str, str], says: str
) -> None:
    """When it is written, not when the first invoice fails."""
    with pytest.raises(SellerError, match=says):
        await sellers.create(connection, replace(ACME, **changes))


async def test_the_numbering_stays_once_there_is_a_series(connection: sellers.Connection) -> None:
    """Numbers of another format could equal old ones. Other fields may change."""
    await sellers.create(connection, ACME)
    changed = await sellers.update(connection, "acme", {"numbering_policy": "continuous"})
    assert changed.number_format == "INV-{year}-{number:08d}"
    await connection.execute("INSERT INTO series (series_id, seller_id, policy) VALUES ('s', 'acme', 'continuous')")
    for change in ({"numbering_policy": "partitioned"}, {"number_format": "R-{year}-{number}"}):
        with pytest.raises(SellerError, match="stay as they are"):
            await sellers.update(connection, "acme", change)
    await sellers.update(
        connection, "acme", {"number_format": "INV-{year}-{number:08d}", "city": "Paris", "vat_id": ""}
    )
    after = await sellers.read(connection, "acme")
    assert (after.city, after.vat_id, after.numbering_policy) == ("Paris", None, "continuous")
    with pytest.raises(SellerError, match="no seller"):
        await sellers.update(connection, "nobody", {"city": "Paris"})


async def test_a_format_older_than_a_rule_goes_on_and_is_named(
    connection: sellers.Connection, command: "Command"
) -> None:
    """Invoices have it already. A new format must follow the rule; other fields may change."""
    await sellers.create(connection, ACME)
    await connection.execute("UPDATE sellers SET number_format = 'F.{partition}-{number}' WHERE seller_id = 'acme'")
    assert (await sellers.update(connection, "acme", {"city": "Paris"})).number_format == "F.{partition}-{number}"
    with pytest.raises(SellerError, match="BR-FR-02"):
        await sellers.update(connection, "acme", {"number_format": "G.{partition}-{number}"})
    for arguments in (["list"], ["show", "acme"]):
        result = await asyncio.to_thread(command, *arguments)
        assert result.exit_code == 0
        assert re.findall("warning: .*", result.stderr) == [
            "warning: acme's number format F.{partition}-{number}: a number format has only A-Z a-z 0-9 + - _ / beside"
            " its fields (BR-FR-02)"
        ]


async def test_a_logo_is_named_by_its_digest_and_older_ones_stay(connection: sellers.Connection) -> None:
    """Invoices issued with it show it for ever."""
    await sellers.create(connection, ACME)
    first = await sellers.set_logo(connection, "acme", PNG)
    assert first == hashlib.sha256(PNG).hexdigest()
    await sellers.set_logo(connection, "acme", OTHER_PNG)
    await sellers.set_logo(connection, "acme", None)
    assert (await sellers.read(connection, "acme")).logo_sha256 is None
    cursor = await connection.execute("SELECT count(*) FROM logos")
    assert await cursor.fetchone() == (2,)
    for image, says in ((b"GIF89a", "PNG or a JPEG"), (noise(430), "KiB"), (OTHER_PNG[:-40], "cannot be read")):
        with pytest.raises(SellerError, match=says):
            await sellers.set_logo(connection, "acme", image)
    with pytest.raises(SellerError, match="no seller"):
        await sellers.set_logo(connection, "nobody", PNG)


async def test_a_logo_that_is_accepted_can_be_printed(connection: sellers.Connection) -> None:
    """Both have the same limit; otherwise the seller's invoices would get no documents."""
    assert 256 * 1024 < len(LARGE_PNG) < 512 * 1024
    await sellers.create(connection, ACME)
    digest = await sellers.set_logo(connection, "acme", LARGE_PNG)
    event = issued()
    event["seller"]["logo_sha256"] = digest
    assert render(event, LARGE_PNG).startswith(b"%PDF-")


async def test_of_a_key_only_its_digest_is_kept(connection: sellers.Connection) -> None:
    """A stolen database contains no usable key."""
    await sellers.create(connection, ACME)
    added = await sellers.add_key(connection, "acme", "shop", KEY)
    cursor = await connection.execute("SELECT key_sha256, label FROM api_keys WHERE seller_id = 'acme'")
    assert await cursor.fetchall() == [(hashlib.sha256(KEY.encode()).digest(), "shop")]
    with pytest.raises(SellerError, match="in use"):
        await sellers.add_key(connection, "demo", "again", KEY)
    await sellers.revoke_key(connection, "acme", added.name)
    assert (await sellers.read_keys(connection, "acme"))[0].revoked_at is not None
    with pytest.raises(SellerError, match="in use already, or was revoked"):
        await sellers.add_key(connection, "acme", "again", KEY)
    with pytest.raises(SellerError, match="no key"):
        await sellers.revoke_key(connection, "demo", added.name)


@pytest.mark.parametrize("key", ["short", "k" * 39 + " ", "ä" * 40, "k" * 39 + "\n"])
async def test_a_key_that_no_header_could_carry_is_refused(connection: sellers.Connection, key: str) -> None:
    """Nor one that can be guessed."""
    with pytest.raises(SellerError, match="a key must be"):
        await sellers.add_key(connection, "demo", "bad", key)


async def test_the_local_seller_is_made_once(connection: sellers.Connection) -> None:
    """A restarted stack changes nothing; another key is added."""
    await connection.execute("DELETE FROM sellers")
    first = await sellers.ensure(connection, sellers.LOCAL_SELLER, "local stack", KEY)
    await sellers.update(connection, "demo", {"city": "Paris"})
    assert (await sellers.ensure(connection, sellers.LOCAL_SELLER, "local stack", KEY)).city == "Paris"
    assert first.seller_id == "demo"
    await sellers.ensure(connection, sellers.LOCAL_SELLER, "local stack", KEY + "2")
    assert len(await sellers.read_keys(connection, "demo")) == 2


class Command:
    """`gapless sellers …` on the test's ledger."""

    def __init__(self, url: str) -> None:
        self._environment = {"GAPLESS_POSTGRES_URL": url}

    def __call__(self, *arguments: str, **environment: str) -> Result:
        return CliRunner().invoke(admin.sellers, arguments, env={**self._environment, **environment})


@pytest.fixture
def command(ledger_url: str) -> Command:
    """The command line."""
    return Command(ledger_url)


def test_a_new_seller_gets_its_first_key_and_it_is_shown_once(command: Command) -> None:
    """It can't be shown again from the ledger."""
    place = ["--street", "1 Main St", "--city", "Lyon", "--postal-code", "69001", "--country", "FR"]
    added = command("add", "acme", "--legal-name", "Acme SARL", *place)
    assert added.exit_code == 0, added.output
    key = added.stdout.strip()
    shown = command("show", "acme").output
    name = hashlib.sha256(key.encode()).hexdigest()[: sellers.KEY_NAME_CHARS]
    assert "Acme SARL" in shown
    assert name in shown
    assert key not in shown
    assert command("key", "revoke", "acme", name).exit_code == 0
    assert "revoked" in command("show", "acme").output
    assert len(command("key", "add", "acme", "--label", "shop").stdout.strip()) > 40
    assert "acme\tAcme SARL" in command("list").output


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["show", "nobody"], 1, "there is no seller 'nobody'"),
        (["set", "demo", "--number-format", "{number}"], 1, "needs {partition}"),
        (["set", "demo"], 2, "nothing to set"),
        (["add", "x"], 2, "missing: --legal-name"),
        (["logo", "demo"], 2, "give an image, or --none"),
        (["key", "revoke", "demo", "x"], 1, "has no key 'x'"),
    ],
)
def test_what_goes_wrong_is_one_line(command: Command, arguments: list[str], code: int, says: str) -> None:
    """There is no traceback."""
    result = command(*arguments)
    assert result.exit_code == code
    assert says in result.output
    assert "Traceback" not in result.output


def test_the_local_key_comes_from_the_file_that_is_named(command: Command, tmp_path: Path) -> None:
    """A missing seller is reported as missing."""
    file = tmp_path / "api_key"
    file.write_text(KEY + "\n")
    assert command("ensure-local", GAPLESS_LOCAL_API_KEY_FILE=str(file)).exit_code == 0
    missing = command("ensure-local", GAPLESS_LOCAL_API_KEY_FILE=str(tmp_path / "none"))
    # A setting that can't be read ends every command with this exception, which the command line reports.
    assert isinstance(missing.exception, SettingsError)
    assert "GAPLESS_LOCAL_API_KEY_FILE: cannot read the file" in str(missing.exception)
    unset: Any = {"GAPLESS_LOCAL_API_KEY_FILE": None}
    assert "is not set" in command("ensure-local", **unset).output
