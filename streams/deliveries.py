"""The sender's process: takes up the deliveries that the notifications agent has written, and sends them.

Webhooks are always sent, e-mail where a mail server is set.
"""

import asyncio
import logging
import signal
from collections.abc import Awaitable, Callable
from datetime import datetime

import uvloop

from domain.addresses import NotANetworkError, parse_networks
from domain.delivery import Answered, Channel, Unanswered
from providers.email import SmtpCalls, SmtpUrlError, parse_smtp_url
from providers.webhooks import Signer, WebhookCalls
from runtime import metrics
from runtime.exits import fatal, start_thread
from runtime.health import ProcessHealth
from runtime.settings import ENV_PREFIX, Settings, SettingsError
from sinks.agreement import await_agreement, watch_agreement
from sinks.object_store.store import open_store
from sinks.postgres.deliveries import Taken
from sinks.postgres.sealing import Sealing, UnreadableSecretError, sealing_for
from streams.delivery_rows import DeliveryRows
from streams.engine.app import watch_loop
from streams.sender import Call, Sender, SenderPolicy, keep_house

_log = logging.getLogger(__name__)

_STANDSTILL_S_MAX = 30
#: Endpoints of which the signing keys are held in memory.
_SIGNERS_MAX = 10_000


def run(settings: Settings, policy: SenderPolicy | None = None) -> None:
    """Send until SIGTERM. Raises `SettingsError`, and `StartRefusedError` where Postgres and Kafka don't agree."""
    try:
        parse_networks(settings.webhooks_allow)
    except NotANetworkError as error:
        raise SettingsError(f"{ENV_PREFIX}WEBHOOKS_ALLOW: {error}") from None
    if settings.smtp_url:
        # Before anything else: a wrong setting is told at once.
        try:
            parse_smtp_url(settings.smtp_url.get_secret_value())
        except SmtpUrlError as error:
            raise SettingsError(f"{ENV_PREFIX}SMTP_URL: {error}") from None
    health = ProcessHealth()
    # Once it runs it goes on while Kafka is unavailable.
    del health.checks["kafka"]
    metrics.serve(settings.metrics_host, settings.metrics_port, health)
    servers = settings.postgres_url.get_secret_value(), settings.kafka_bootstrap
    # From an older Postgres it would send again what was sent, and what was decided otherwise since.
    await_agreement(*servers)
    health.reached("Postgres")
    start_thread("agreement", watch_agreement, *servers)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(settings, policy or SenderPolicy(), health))


async def _serve(settings: Settings, policy: SenderPolicy, health: ProcessHealth) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    health.watch(loop)
    start_thread("watch", watch_loop, loop, _STANDSTILL_S_MAX)
    working = asyncio.create_task(_work(settings, policy))
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
    if working.done():
        stopping.cancel()
        # What it raises is a bug.
        await working
        fatal("the sender has ended")
    working.cancel()
    await asyncio.wait({working})


async def _work(settings: Settings, policy: SenderPolicy) -> None:
    url = settings.postgres_url.get_secret_value()
    rows = _rows(url, Channel.WEBHOOK, policy)
    channel = WebhookChannel(WebhookCalls(parse_networks(settings.webhooks_allow)), rows.signers, sealing_for(settings))
    async with asyncio.TaskGroup() as senders:
        senders.create_task(Sender(rows, channel, policy).run())
        # Empty where the file that it is read from is.
        if settings.smtp_url:
            senders.create_task(_email_sender(settings, settings.smtp_url.get_secret_value()).run())
        else:
            # Sellers may have turned mails on all the same: that they wait must be seen.
            senders.create_task(keep_house(_rows(url, Channel.EMAIL, policy)))


def _rows(url: str, channel: Channel, policy: SenderPolicy) -> DeliveryRows:
    return DeliveryRows(
        url, channel, lease_seconds=policy.lease_seconds, failing_seconds_max=policy.failing_seconds_max
    )


def _email_sender(settings: Settings, smtp_url: str) -> Sender:
    # Templates and words are loaded only where mails are sent.
    from streams.email import EMAIL_POLICY, EmailChannel, Links

    rows = _rows(settings.postgres_url.get_secret_value(), Channel.EMAIL, EMAIL_POLICY)
    links = None
    if settings.public_url is not None and settings.link_keys:
        links = Links(settings.public_url, settings.link_keys.get_secret_value())
    channel = EmailChannel(SmtpCalls(parse_smtp_url(smtp_url)), open_store(settings), rows.letters, links)
    return Sender(rows, channel, EMAIL_POLICY)


#: Endpoint, HMAC secret and Ed25519 seed as they are stored, and when they expire.
SecretRow = tuple[str, bytes, bytes, datetime | None]


class WebhookChannel:
    """Signs and posts; holds the keys of endpoints until they have another version."""

    def __init__(
        self,
        calls: WebhookCalls,
        read_secrets: Callable[[list[str]], Awaitable[list[SecretRow]]],
        sealing: Sealing,
    ) -> None:
        self._calls = calls
        self._sealing = sealing
        self._read_secrets = read_secrets
        self._signers: dict[tuple[str, int], list[Signer]] = {}

    async def prepare(self, taken: list[Taken]) -> None:
        """Read the keys that are not known yet."""
        unknown = {(each.destination, each.version) for each in taken} - self._signers.keys()
        if not unknown:
            return
        if len(self._signers) + len(unknown) > _SIGNERS_MAX:
            self._signers.clear()
            unknown = {(each.destination, each.version) for each in taken}
        made: dict[str, list[Signer]] = {}
        for endpoint, key, seed, expires_at in await self._read_secrets(sorted({name for name, _ in unknown})):
            try:
                signer = Signer(self._sealing.unseal(key), self._sealing.unseal(seed), expires_at)
            except UnreadableSecretError as error:
                _log.error("the secrets of the webhook endpoint %s can't be read: %s", endpoint, error)
            else:
                made.setdefault(endpoint, []).append(signer)
        for name, version in unknown:
            for former in [each for each in self._signers if each[0] == name]:
                del self._signers[former]
            self._signers[name, version] = made.get(name, [])

    async def send(self, taken: Taken, now: datetime) -> Call:
        """Post it."""
        signers = self._signers.get((taken.destination, taken.version), [])
        if not signers:
            # Deleted meanwhile, or encrypted under a key that this sender lacks: it is tried again.
            reason = "the endpoint has no secret that can be read"
            return Call(Unanswered(reason), None, reason, "")
        result = await self._calls.post(taken.url, taken.delivery_id, taken.payload, signers, now)
        if isinstance(result.answer, Answered):
            return Call(result.answer, result.answer.status, "", result.text)
        return Call(result.answer, None, result.answer.reason, "")

    async def close(self) -> None:
        """End all connections."""
        await self._calls.close()
