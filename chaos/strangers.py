"""Other sellers than the run's own, and their requests to the gateway."""

import asyncio
import io
import json
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import Any

import aiohttp

from chaos.world import World


async def add_seller(world: World, *, revoke: bool = False) -> str:
    """Create a second seller with the command line, as an operator would; returns its API key."""
    seller = f"other{time.time_ns() % 10**9}"
    made = [
        "--legal-name",
        "Other Ltd",
        "--street",
        "1 Side St",
        "--city",
        "Cork",
        "--postal-code",
        "T12",
        "--country",
        "IE",
        # Without one it may charge no tax (BR-S-02).
        "--tax-number",
        "1234567T",
    ]
    key = await asyncio.to_thread(run_gapless, world, "sellers", "add", seller, *made)
    if revoke:
        await asyncio.to_thread(_revoke_all, world, seller)
    return key.strip()


def _revoke_all(world: World, seller: str) -> None:
    for line in run_gapless(world, "sellers", "show", seller).splitlines():
        word, *rest = line.split()
        if word == "key":
            run_gapless(world, "sellers", "key", "revoke", seller, rest[0])


def run_gapless(world: World, *arguments: str) -> str:
    """The output of a command of the operator. Raises `RuntimeError` if it fails."""
    command = [sys.executable, "-m", "gapless", *arguments, "--data", str(world.stack.data)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)  # noqa: S603
    if done.returncode:
        raise RuntimeError(f"gapless {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


async def post(
    session: aiohttp.ClientSession, world: World, path: str, body: Mapping[str, Any], key: str, wait_s: int
) -> tuple[int, Mapping[str, Any]]:
    """Post with this key; returns the status and the body of the answer."""
    headers = {"Authorization": f"Bearer {key}", "Prefer": f"wait={wait_s}"}
    async with session.post(world.url + path, data=io.BytesIO(json.dumps(body).encode()), headers=headers) as answer:
        return answer.status, await answer.json(content_type=None)


async def get(session: aiohttp.ClientSession, world: World, path: str, key: str) -> tuple[int, Mapping[str, Any]]:
    """GET with this key; returns the status and the body of the answer."""
    async with session.get(world.url + path, headers={"Authorization": f"Bearer {key}"}) as answer:
        return answer.status, await answer.json(content_type=None)
