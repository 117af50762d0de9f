"""`gapless shop`: the demo shop on the local stack, which is started if it is not up."""

import asyncio
import signal
from pathlib import Path

import click
import uvloop

from gapless.local import stack_option
from local.layout import free_port
from local.shop import opened
from local.shop_gateway import ShopError
from local.shop_goods import goods
from local.stack import Stack


@click.command()
@stack_option
@click.option("--port", type=click.IntRange(1, 65_535), default=None, help="Default: a free one.")
def shop(data: Path, port: int | None) -> None:
    """Open a shop of a thousand products: browse, fill a cart, check out, see the order, fetch the invoice.

    Ctrl-C closes the shop; `gapless down` stops the stack.
    """
    stack = Stack(data)
    if stack.pid() is None:
        click.echo("starting the stack …")
        stack.start()
    status = stack.status()
    try:
        uvloop.run(_run(status["endpoints"], status["api_key"], port or free_port()))
    except ShopError as error:
        raise click.ClickException(str(error)) from None


async def _run(endpoints: dict[str, str], key: str, port: int) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    click.echo(f"putting {len(goods()):,} products into the catalogue …")
    async with opened(endpoints["gateway"], key, port, goods().values()):
        click.echo(f"shop       http://127.0.0.1:{port}/shop")
        click.echo(f"dashboard  {endpoints['dashboard']}")
        click.echo("Ctrl-C closes the shop.")
        await stop.wait()
