"""The mails of a run: e-mail is turned on for its seller, and what the stack's mail server takes is read."""

import asyncio
import contextlib
import email.policy
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email.parser import BytesHeaderParser
from pathlib import Path
from urllib.request import Request, urlopen

from chaos.record import Mailed
from chaos.world import World

_CALL_SECONDS_MAX = 10.0
#: The server deletes all but the last 1,000: they are read long before.
_LOOK_S = 1.0
_SETTINGS = {"sender": "shop@example.com", "events": ["order.confirmed"]}


@asynccontextmanager
async def mailing(world: World) -> AsyncIterator[list[Mailed]]:
    """Mails that confirm orders, in the order of their arrival, while the block runs; all of them once it has ended.

    Nothing may be under way at the end of the block: what is would not be sent any more.
    """
    postbox = _Postbox(Path(world.stack.data) / "inbox")
    await asyncio.to_thread(_ask, world, "PUT", _SETTINGS)
    looking = asyncio.create_task(postbox.watch())
    try:
        yield postbox.mails
    finally:
        looking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await looking
        await asyncio.to_thread(postbox.look)
        await asyncio.to_thread(_ask, world, "DELETE")


class _Postbox:
    def __init__(self, folder: Path) -> None:
        self.mails: list[Mailed] = []
        self._folder = folder
        self._parser = BytesHeaderParser(policy=email.policy.default)
        self._last = max(self._numbers(), default=0)

    async def watch(self) -> None:
        """Read what is new, until cancelled."""
        while True:
            await asyncio.to_thread(self.look)
            await asyncio.sleep(_LOOK_S)

    def look(self) -> None:
        """Read what is new."""
        for number in sorted(each for each in self._numbers() if each > self._last):
            head = self._parser.parsebytes((self._folder / f"{number}.eml").read_bytes())
            self.mails.append(Mailed(str(head["Message-ID"]), str(head["Subject"]), str(head["To"])))
            self._last = number

    def _numbers(self) -> list[int]:
        return [int(file.stem) for file in self._folder.glob("*.eml")]


def _ask(world: World, method: str, body: object = None) -> None:
    headers = {"Authorization": f"Bearer {world.api_key}"}
    data = None if body is None else json.dumps(body).encode()
    asked = Request(f"{world.url}/v1/email", data, headers, method=method)  # noqa: S310
    with urlopen(asked, timeout=_CALL_SECONDS_MAX):  # noqa: S310
        pass
