"""Each fault of a proxy, tested with an echo server."""

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from chaos.proxy import Proxies, Proxy

TIMEOUT_S = 60.0
SOON_S = 0.1


class Echo:
    """An echo server that remembers what it received."""

    def __init__(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self.heard = b""
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listening.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client:
            try:
                while data := client.recv(1024):
                    self.heard += data
                    client.sendall(data)
            except OSError:
                return


@pytest.fixture
def echo() -> Iterator[Echo]:
    server = Echo()
    yield server
    server.close()


@pytest.fixture
def proxy(echo: Echo) -> Iterator[Proxy]:
    with Proxies() as proxies:
        made = proxies.add()
        made.target = echo.port
        yield made


@pytest.fixture
def client(proxy: Proxy) -> Iterator[socket.socket]:
    with connect(proxy) as made:
        assert say(made, b"hello") == b"hello"
        yield made


def connect(proxy: Proxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), TIMEOUT_S)


def say(client: socket.socket, words: bytes) -> bytes:
    client.sendall(words)
    return client.recv(1024)


def until_heard(echo: Echo, words: bytes) -> None:
    give_up_at = time.monotonic() + TIMEOUT_S
    while words not in echo.heard:
        assert time.monotonic() < give_up_at, echo.heard
        time.sleep(0.005)


def test_everything_is_passed_on_and_so_is_the_end(client: socket.socket) -> None:
    client.sendall(b"x" * 100_000)
    client.shutdown(socket.SHUT_WR)
    received = b""
    while data := client.recv(65_536):
        received += data
    assert received == b"x" * 100_000


def test_a_cut_resets_and_the_next_connection_goes_through(proxy: Proxy, client: socket.socket) -> None:
    assert proxy.cut() == 1
    with pytest.raises(ConnectionResetError):
        say(client, b"lost")
    assert proxy.cuts == 1
    with connect(proxy) as again:
        assert say(again, b"again") == b"again"


def test_a_cut_before_the_words_keeps_them_from_the_server(proxy: Proxy, echo: Echo, client: socket.socket) -> None:
    proxy.cut_at(b"COMMIT", before=True)
    assert say(client, b"BEGIN") == b"BEGIN"
    with pytest.raises(ConnectionResetError):
        say(client, b"so COMMIT it")
    assert (proxy.armed, proxy.cuts) == (0, 1)
    assert b"COMMIT" not in echo.heard


def test_a_cut_after_the_words_loses_only_the_answer(proxy: Proxy, echo: Echo, client: socket.socket) -> None:
    proxy.cut_at(b"COMMIT", before=False)
    with pytest.raises(ConnectionResetError):
        say(client, b"COMMIT")
    until_heard(echo, b"COMMIT")
    assert (proxy.armed, proxy.cuts) == (0, 1)


def test_a_trap_springs_as_often_as_it_was_told_to(proxy: Proxy) -> None:
    proxy.cut_at(b"COMMIT", before=True, times=2)
    for left in (1, 0):
        with connect(proxy) as client, pytest.raises(ConnectionResetError):
            say(client, b"COMMIT")
        assert proxy.armed == left
    with connect(proxy) as client:
        assert say(client, b"COMMIT") == b"COMMIT"


def test_a_delay_holds_back_and_loses_nothing(proxy: Proxy, client: socket.socket) -> None:
    proxy.delay(SOON_S)
    began = time.monotonic()
    assert say(client, b"slow") == b"slow"
    # In both directions.
    assert time.monotonic() - began >= 2 * SOON_S


def test_what_is_frozen_passes_when_it_is_healed(proxy: Proxy, echo: Echo, client: socket.socket) -> None:
    proxy.freeze()
    client.sendall(b"frozen")
    client.settimeout(SOON_S)
    with pytest.raises(TimeoutError):
        client.recv(1024)
    assert b"frozen" not in echo.heard
    proxy.heal()
    client.settimeout(TIMEOUT_S)
    assert client.recv(1024) == b"frozen"


def test_what_was_frozen_when_it_was_cut_never_arrives(proxy: Proxy, echo: Echo, client: socket.socket) -> None:
    proxy.freeze()
    client.sendall(b"frozen")
    assert proxy.cut() == 1
    proxy.heal()
    with connect(proxy) as again:
        assert say(again, b"again") == b"again"
    assert b"frozen" not in echo.heard


def test_refusing_cuts_everybody_until_it_is_healed(proxy: Proxy, client: socket.socket) -> None:
    proxy.refuse()
    with client, pytest.raises(ConnectionResetError):
        say(client, b"refused")
    # The reset may arrive during the connect or after it.
    with pytest.raises(ConnectionResetError), connect(proxy) as late:
        say(late, b"refused")
    proxy.heal()
    with connect(proxy) as again:
        assert say(again, b"again") == b"again"


def test_a_server_that_is_gone_resets_its_clients(echo: Echo, proxy: Proxy) -> None:
    echo.close()
    proxy.target = 1
    # The reset may arrive during the connect or after it.
    with pytest.raises(ConnectionResetError), connect(proxy) as client:
        say(client, b"anybody")
