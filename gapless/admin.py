"""Commands that set up a deployment: tables, topics, sellers."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import click
import psycopg

from domain.numbering import PARTITIONED, PARTITIONS_MAX, POLICIES
from gapless.local import Folder, settings_for
from runtime.kafka import TopicError
from runtime.settings import ENV_PREFIX, Settings
from schemas.catalog import TOPICS
from sinks.deployment import PARTITIONS_DEFAULT, make_topics
from sinks.postgres import sellers as store
from sinks.postgres.migrate import migrate as run_migrations

_CONNECT_SECONDS_MAX = 10
_Result = TypeVar("_Result")
_META = "gapless.admin.data"


def _remember(context: click.Context, _: click.Parameter, value: Path | None) -> None:
    # Shared by a chain of commands: `sellers --data X list` and `sellers list --data X` are the same.
    if value is not None:
        context.meta[_META] = value


_data = click.option(
    "--data",
    type=Folder(),
    expose_value=False,
    callback=_remember,
    help="Folder of the local stack to use. Default: GAPLESS_… if set, else ./.gapless.",
)


def _settings() -> Settings:
    return settings_for(click.get_current_context().meta.get(_META))


@click.command()
@_data
def migrate() -> None:
    """Bring Postgres' tables up to date. Safe to repeat, and to run on several machines at once."""
    applied = asyncio.run(run_migrations(_settings().postgres_url.get_secret_value()))
    click.echo(f"applied {', '.join(applied)}" if applied else "nothing to apply")


@click.command()
@_data
@click.option(
    "--partitions",
    type=click.IntRange(1, PARTITIONS_MAX),
    help=f"Partitions of each topic, fixed for ever; needed the first time only.  [default: {PARTITIONS_DEFAULT}]",
)
def topics(partitions: int | None) -> None:
    """Create missing topics and check existing ones against the catalogue. Existing topics are not changed."""
    settings = _settings()
    url, bootstrap = settings.postgres_url.get_secret_value(), settings.kafka_bootstrap
    try:
        count, made = make_topics(url, bootstrap, settings.replication_factor, partitions)
    except TopicError as error:
        raise click.ClickException(str(error)) from None
    done = f"created {', '.join(made)}" if made else f"all {len(TOPICS)} topics match the catalogue"
    click.echo(f"{done}, with {count} partitions each")


@click.group()
@_data
def sellers() -> None:
    """Show and change sellers and their API keys."""


_SELLER_OPTIONS = (
    click.option("--legal-name", help="The name shown on invoices."),
    click.option("--street", help="Street and house number."),
    click.option("--city"),
    click.option("--postal-code", help="May be empty if the country has none."),
    click.option("--country", help="ISO 3166-1 alpha-2, such as FR."),
    click.option("--vat-id", help="VAT identifier; empty for none."),
    click.option("--tax-number", help="Local tax registration (BT-32), where there is no VAT identifier."),
    click.option("--tax-name", help="What the tax is called, such as GST or Sales tax.  [default: VAT]"),
    click.option("--trading-name", help="A name beside the legal one (BT-28)."),
    click.option("--legal-id", help="Such as a SIREN or a commercial register's number (BT-30)."),
    click.option("--legal-id-scheme", help="Its ISO 6523 code, such as 0002 for a SIREN."),
    click.option("--electronic-address", help="Where e-invoices go (BT-34)."),
    click.option("--electronic-address-scheme", help="Its EAS code, such as 0225 or EM for e-mail."),
    click.option("--contact-name", help="Whom to ask (BT-41)."),
    click.option("--contact-phone", help="BT-42."),
    click.option("--contact-email", help="BT-43."),
    click.option("--payment-terms", help="On invoices that state none (BT-20)."),
    click.option("--payment-days", help="Days until an invoice is due that states no date (BT-9)."),
    click.option("--payment-means", help="UNCL4461 code, such as 58 for a SEPA transfer (BT-81)."),
    click.option("--iban", help="Account to pay into (BT-84)."),
    click.option("--bic", help="BT-86."),
    click.option("--account-name", help="BT-85."),
    click.option("--note", help="On invoices without one (BT-22)."),
    click.option("--language", help="Of documents that name none, such as de or pt-BR."),
    click.option("--colour", help="Of the documents' rules, such as #204080."),
    click.option("--time-zone", help="Determines an invoice's date, such as Europe/Paris.  [default: UTC]"),
    click.option(
        "--numbering-policy",
        type=click.Choice(POLICIES),
        help=f"One sequence of numbers per partition, or one per year.  [default: {PARTITIONED}]",
    ),
    click.option("--number-format", help="For example INV-{partition:02d}-{number:08d}.  [default: the policy's]"),
)


def _seller_options(command: Callable[..., None]) -> Callable[..., None]:
    for option in reversed(_SELLER_OPTIONS):
        command = option(command)
    return command


@sellers.command("add")
@_data
@click.argument("seller_id")
@_seller_options
def add_seller(seller_id: str, **given: str | None) -> None:
    """Add a seller, and print its first API key."""
    values = {name: value for name, value in given.items() if value is not None}
    missing = [name for name in ("legal_name", "street", "city", "postal_code", "country") if name not in values]
    if missing:
        raise click.UsageError(f"missing: {', '.join('--' + name.replace('_', '-') for name in missing)}")
    key = _new_key()

    async def add(connection: store.Connection) -> None:
        async with connection.transaction():
            await store.create(connection, store.SellerRow(seller_id, **values))
            await store.add_key(connection, seller_id, "first", key)

    _run(add)
    click.echo(key)
    _say_once()


@sellers.command("list")
@_data
def list_sellers() -> None:
    """List the sellers."""
    for seller in _run(store.read_all):
        click.echo(f"{seller.seller_id}\t{seller.legal_name}\t{seller.country}\t{seller.number_format}")
        _warn_of_numbering(seller)


@sellers.command("show")
@_data
@click.argument("seller_id")
def show_seller(seller_id: str) -> None:
    """Show a seller and the names of its keys."""

    async def show(connection: store.Connection) -> tuple[store.SellerRow, list[store.ApiKey]]:
        return await store.read(connection, seller_id), await store.read_keys(connection, seller_id)

    seller, keys = _run(show)
    for name in store.SellerRow.__dataclass_fields__:
        # Of what few sellers say, only what this one does.
        if getattr(seller, name) or name not in store.MORE:
            click.echo(f"{name:17} {getattr(seller, name) or '-'}")
    _warn_of_numbering(seller)
    for key in keys:
        state = f"revoked {key.revoked_at:%Y-%m-%d %H:%M}" if key.revoked_at else "valid"
        click.echo(f"{'key':17} {key.name}  {state}  {key.created_at:%Y-%m-%d %H:%M}  {key.label}")


@sellers.command("set")
@_data
@click.argument("seller_id")
@_seller_options
def set_seller(seller_id: str, **given: str | None) -> None:
    """Change a seller. Issued invoices do not change; the numbering can't be changed once there is an invoice."""
    changes = {name: value for name, value in given.items() if value is not None}
    if not changes:
        raise click.UsageError("nothing to set")
    _run(lambda connection: store.update(connection, seller_id, changes))
    click.echo(f"{seller_id}: set {', '.join(changes)}")


@sellers.command("logo")
@_data
@click.argument("seller_id")
@click.argument("image", type=click.Path(exists=True, dir_okay=False, path_type=Path), required=False)
@click.option("--none", "without", is_flag=True, help="Show no logo.")
def set_logo(seller_id: str, image: Path | None, without: bool) -> None:
    """Show IMAGE, a PNG or JPEG, on future invoices."""
    if (image is None) != without:
        raise click.UsageError("give an image, or --none")
    body = None if image is None else image.read_bytes()
    digest = _run(lambda connection: store.set_logo(connection, seller_id, body))
    click.echo(f"{seller_id}: {'no logo' if digest is None else f'logo {digest}'}")


@sellers.group("key")
@_data
def keys() -> None:
    """Add and revoke API keys."""


@keys.command("add")
@_data
@click.argument("seller_id")
@click.option("--label", default="", help="The purpose of the key.")
def add_key(seller_id: str, label: str) -> None:
    """Create an API key and print it. Only its digest is stored."""
    key = _new_key()
    _run(lambda connection: store.add_key(connection, seller_id, label, key))
    click.echo(key)
    _say_once()


@keys.command("revoke")
@_data
@click.argument("seller_id")
@click.argument("name")
def revoke_key(seller_id: str, name: str) -> None:
    """Revoke the key that `show` lists as NAME. Gateways refuse it within 30 seconds."""
    _run(lambda connection: store.revoke_key(connection, seller_id, name))
    click.echo(f"{seller_id}: revoked {name}")


@sellers.command("ensure-local")
@_data
def ensure_local() -> None:
    """Create the local stack's seller, with the key in the file GAPLESS_LOCAL_API_KEY_FILE."""
    secret = _settings().local_api_key
    if secret is None:
        raise click.ClickException(f"{ENV_PREFIX}LOCAL_API_KEY_FILE is not set: set it to the file that holds the key")
    key = secret.get_secret_value()
    seller = _run(lambda connection: store.ensure(connection, store.LOCAL_SELLER, "local stack", key))
    click.echo(f"the local stack's seller is {seller.seller_id}")


@sellers.command("ensure-probe")
@_data
def ensure_probe() -> None:
    """Create the seller of the monitor's test requests, with the key in the file GAPLESS_PROBE_API_KEY_FILE."""
    secret = _settings().probe_api_key
    if secret is None:
        raise click.ClickException(f"{ENV_PREFIX}PROBE_API_KEY_FILE is not set: set it to the file that holds the key")
    key = secret.get_secret_value()
    seller = _run(lambda connection: store.ensure(connection, store.PROBE_SELLER, "probe", key))
    click.echo(f"the probe's seller is {seller.seller_id}")


def _warn_of_numbering(seller: store.SellerRow) -> None:
    fault = store.numbering_fault(seller)
    if fault is not None:
        click.echo(f"warning: {seller.seller_id}'s number format {seller.number_format}: {fault}", err=True)


def _new_key() -> str:
    return f"gpl_{secrets.token_urlsafe(32)}"


def _say_once() -> None:
    click.echo("Store this key: it is not shown again.", err=True)


def _run(work: Callable[[store.Connection], Awaitable[_Result]]) -> _Result:
    """Do `work` with a connection of its own; known errors become one line."""

    async def connected() -> _Result:
        url = _settings().postgres_url.get_secret_value()
        async with await psycopg.AsyncConnection.connect(
            url, autocommit=True, connect_timeout=_CONNECT_SECONDS_MAX
        ) as connection:
            return await work(connection)

    try:
        return asyncio.run(connected())
    except store.SellerError as error:
        raise click.ClickException(str(error)) from None
    except psycopg.errors.UndefinedTable:
        raise click.ClickException("Postgres has no tables yet: run `gapless migrate`") from None
