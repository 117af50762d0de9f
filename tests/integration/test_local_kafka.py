"""The broker of the local stack, as `make setup` leaves it."""

import os
import subprocess
from pathlib import Path

from local import kafka


def test_a_broker_starts_from_the_cache_of_its_classes(tmp_path: Path) -> None:
    """The JVM passes over a cache that isn't its own without a word, unless it is told to insist."""
    (tmp_path / "tmp").mkdir()
    command = kafka._java_command(128)
    assert f"-XX:AOTCache={kafka.aot_cache()}" in command
    done = subprocess.run(
        [*command, "-XX:AOTMode=on", "kafka.tools.StorageTool", "random-uuid"],
        cwd=tmp_path,
        env={**os.environ, **kafka.ENVIRONMENT},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.strip()) == 22
