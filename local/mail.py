"""A mail server whose inbox can be read: `python -m local.mail --port 8025 --smtp-port 2525 --data FOLDER`.

It takes every mail and sends none on. The last 1,000 stay in the folder, one file each, and are shown at `/`.
"""

import argparse
import asyncio
import email
import email.policy
import itertools
import logging
import signal
import sys
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path
from typing import Any

from aiohttp import web
from aiosmtpd.smtp import SMTP, Envelope, Session
from jinja2 import Environment, PackageLoader

from runtime.settings import SettingsError, refuse_unknown

_log = logging.getLogger(__name__)

MAILS_MAX = 1_000
#: Mails on a page.
_SHOWN_MAX = 100
_BYTES_MAX = 32 * 1024 * 1024
_SUFFIX = ".eml"
#: A mail is somebody else's page: it may style itself, and nothing more.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'self'; base-uri 'none'"
_HEADERS = {"Content-Security-Policy": _POLICY, "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}
_HOSTS = ("127.0.0.1", "localhost", "::1")


class Inbox:
    """The mails of a folder, by number."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        # What a crash left unfinished has another suffix.
        self._numbers = sorted(int(file.stem) for file in folder.glob(f"*{_SUFFIX}") if file.stem.isdecimal())
        self._next = itertools.count(self._numbers[-1] + 1 if self._numbers else 1)

    def add(self, content: bytes) -> int:
        """Write a mail, and delete the oldest if there are too many; returns its number."""
        number = next(self._next)
        part = self._folder / f"{number}.part"
        part.write_bytes(content)
        part.replace(self._file(number))
        self._numbers.append(number)
        while len(self._numbers) > MAILS_MAX:
            self._file(self._numbers.pop(0)).unlink(missing_ok=True)
        return number

    def newest(self, count: int) -> Iterator[tuple[int, EmailMessage]]:
        """The last mails, newest first."""
        for number in reversed(self._numbers[-count:]):
            message = self.read(number)
            if message is not None:
                yield number, message

    def content(self, number: int) -> bytes | None:
        """A mail's bytes; None for one that is not there."""
        try:
            return self._file(number).read_bytes()
        except FileNotFoundError:
            return None

    def read(self, number: int) -> EmailMessage | None:
        """A mail; None for one that is not there."""
        content = self.content(number)
        # As text, since mails with SMTPUTF8 have heads beyond ASCII.
        return None if content is None else _parse(content)

    def _file(self, number: int) -> Path:
        return self._folder / f"{number}{_SUFFIX}"


class Taker:
    """Takes mails: aiosmtpd calls it."""

    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        """Write the mail before it is acknowledged."""
        content = envelope.content
        if not isinstance(content, bytes):
            raise TypeError("aiosmtpd decodes no content")
        number = self._inbox.add(content)
        return f"250 taken as {number}"


class Pages:
    """The inbox over HTTP."""

    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox
        templates = Environment(loader=PackageLoader("local", "pages"), autoescape=True, trim_blocks=True)
        self._list = templates.get_template("inbox.html")
        self._mail = templates.get_template("mail.html")

    def app(self) -> web.Application:
        """The routes."""
        app = web.Application(middlewares=[_for_this_machine])
        app.add_routes(
            [
                web.get("/", self.list),
                web.get("/mails.json", self.list_json),
                web.get("/mails/{number:[0-9]{1,15}}", self.show),
                web.get("/mails/{number:[0-9]{1,15}}/body", self.body),
                web.get("/mails/{number:[0-9]{1,15}}/files/{place:[0-9]{1,3}}", self.file),
                web.get("/mails/{number:[0-9]{1,15}}/source", self.source),
                web.get("/readyz", self.ready),
            ]
        )
        return app

    async def list(self, _: web.Request) -> web.Response:
        """GET /: the newest mails."""
        mails = [_head(number, message) for number, message in self._inbox.newest(_SHOWN_MAX)]
        return _page(self._list.render(mails=mails))

    async def list_json(self, _: web.Request) -> web.Response:
        """GET /mails.json: the same for programs."""
        mails = [_head(number, message) for number, message in self._inbox.newest(MAILS_MAX)]
        return web.json_response({"mails": mails}, headers=_HEADERS)

    async def show(self, request: web.Request) -> web.Response:
        """GET /mails/{number}: a mail, its HTML in a frame that runs nothing."""
        number, message = self._found(request)
        text = message.get_body(("plain",))
        values = {
            **_head(number, message),
            "headers": [(name, str(value)) for name, value in message.items()],
            "text": "" if text is None else text.get_content(),
            "has_html": message.get_body(("html",)) is not None,
            "files": [each.get_filename() or "file" for each in message.iter_attachments()],
        }
        return _page(self._mail.render(values), frames=True)

    async def body(self, request: web.Request) -> web.Response:
        """GET /mails/{number}/body: a mail's HTML alone."""
        _, message = self._found(request)
        html = message.get_body(("html",))
        if html is None:
            raise web.HTTPNotFound
        policy = f"{_POLICY}; sandbox allow-popups"
        return web.Response(
            text=html.get_content(), content_type="text/html", headers={**_HEADERS, "Content-Security-Policy": policy}
        )

    async def file(self, request: web.Request) -> web.Response:
        """GET /mails/{number}/files/{place}: an attached file, to be saved."""
        _, message = self._found(request)
        files = [*message.iter_attachments()]
        place = int(request.match_info["place"])
        if place >= len(files):
            raise web.HTTPNotFound
        content = files[place].get_content()
        body = content if isinstance(content, bytes) else str(content).encode()
        headers = {**_HEADERS, "Content-Disposition": "attachment"}
        return web.Response(body=body, content_type=files[place].get_content_type(), headers=headers)

    async def source(self, request: web.Request) -> web.Response:
        """GET /mails/{number}/source: the mail as it came."""
        content = self._inbox.content(int(request.match_info["number"]))
        if content is None:
            raise web.HTTPNotFound
        return web.Response(body=content, content_type="text/plain", charset="utf-8", headers=_HEADERS)

    async def ready(self, _: web.Request) -> web.Response:
        """GET /readyz."""
        return web.json_response({"status": "ready"})

    def _found(self, request: web.Request) -> tuple[int, EmailMessage]:
        number = int(request.match_info["number"])
        message = self._inbox.read(number)
        if message is None:
            raise web.HTTPNotFound
        return number, message


@web.middleware
async def _for_this_machine(request: web.Request, handler: Any) -> web.StreamResponse:
    """Refuse names that a page elsewhere has pointed at this machine."""
    if request.url.host not in _HOSTS:
        raise web.HTTPForbidden
    response: web.StreamResponse = await handler(request)
    return response


def _page(html: str, *, frames: bool = False) -> web.Response:
    policy = f"{_POLICY}; frame-src 'self'" if frames else _POLICY
    return web.Response(text=html, content_type="text/html", headers={**_HEADERS, "Content-Security-Policy": policy})


def _head(number: int, message: EmailMessage) -> dict[str, Any]:
    return {
        "number": number,
        "sender": str(message["From"]),
        "to": str(message["To"]),
        "subject": str(message["Subject"]),
        "date": str(message["Date"]),
        "message_id": str(message["Message-ID"]),
    }


def _parse(content: bytes) -> EmailMessage:
    return email.message_from_string(content.decode(errors="replace"), policy=email.policy.default)


async def _serve(arguments: argparse.Namespace) -> None:
    loop = asyncio.get_running_loop()
    inbox = Inbox(arguments.data)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    runner = web.AppRunner(Pages(inbox).app(), access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    server = await loop.create_server(
        lambda: SMTP(Taker(inbox), data_size_limit=_BYTES_MAX, enable_SMTPUTF8=True, hostname="localhost", loop=loop),
        "127.0.0.1",
        arguments.smtp_port,
    )
    # The page is what says that it is ready, so it comes last.
    await web.TCPSite(runner, "127.0.0.1", arguments.port).start()
    _log.info("mail server listening on port %d, its inbox on port %d", arguments.smtp_port, arguments.port)
    await stop.wait()
    server.close()
    await runner.cleanup()


def main(given: list[str] | None = None) -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m local.mail", description=__doc__)
    parser.add_argument("--port", type=int, required=True, help="port of the inbox's page")
    parser.add_argument("--smtp-port", type=int, required=True)
    parser.add_argument("--data", type=Path, required=True, help="folder of the mails")
    arguments = parser.parse_args(given)
    try:
        refuse_unknown()
    except SettingsError as error:
        sys.exit(str(error))
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(message)s")
    # It logs each step of each connection.
    logging.getLogger("mail.log").setLevel(logging.WARNING)
    asyncio.run(_serve(arguments))


if __name__ == "__main__":
    main()
