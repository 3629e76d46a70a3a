"""prime-rl's admin calls to its engines around an update, as its orchestrator makes them (src/prime_rl/utils/client.py at 559b4477, v0.8.1.dev67):
one httpx client an engine with at most 4 connections, each call wrapped by tenacity, asyncio.gather over the engines, on uvloop.

argv is the directory of the weights; stdin gives the engines' URLs as one line of JSON, then a line for each update. Prints versions, then for each
update the milliseconds from the first request to the last answer of the pause and of the resume, and of the whole.
"""

import asyncio
import json
import pathlib
import platform
import sys
import time
from importlib.metadata import version

import httpx
import tenacity
import uvloop

ADMIN_TIMEOUT_S = 300.0
UPDATE_TIMEOUT_S = 720.0


def again(error):
    if isinstance(error, httpx.HTTPStatusError):
        return error.response.status_code >= 500
    return isinstance(error, httpx.TransportError)


async def post(client, path, timeout_s=ADMIN_TIMEOUT_S, **parts):
    attempts = tenacity.AsyncRetrying(
        retry=tenacity.retry_if_exception(again),
        stop=tenacity.stop_after_delay(2 * timeout_s) | tenacity.stop_after_attempt(10),
        wait=tenacity.wait_exponential(multiplier=1, min=1, max=10),
        reraise=True,
    )
    async for attempt in attempts:
        with attempt:
            timeout = httpx.Timeout(connect=10.0, read=timeout_s, write=60.0, pool=10.0)
            response = await client.post(path, timeout=timeout, **parts)
            response.raise_for_status()


async def timed(calls):
    began = time.perf_counter()
    await asyncio.gather(*calls)
    return 1e3 * (time.perf_counter() - began)


async def update(clients, directory):
    # It asks for the health at its start only, and its idle connections end after 5 s: here they are warm, which is to its favour.
    await asyncio.gather(*[client.get("/health") for client in clients])
    began = time.perf_counter()
    query = {"mode": "keep", "clear_cache": "false"}
    pause = await timed([post(client, "/pause", params=query) for client in clients])
    resume = None
    try:
        (directory / "NCCL_READY").touch()
        body = {"weight_dir": directory.as_posix()}
        await asyncio.gather(*[post(client, "/update_weights", UPDATE_TIMEOUT_S, json=body) for client in clients])
    finally:
        resume = await timed([post(client, "/resume") for client in clients])
    return {"pause": pause, "resume": resume, "whole": 1e3 * (time.perf_counter() - began)}


async def main():
    versions = {name: version(name) for name in ("httpx", "tenacity", "uvloop")}
    print(json.dumps({"python": platform.python_version(), **versions}), flush=True)
    directory = pathlib.Path(sys.argv[1])
    directory.mkdir(parents=True, exist_ok=True)
    limits = httpx.Limits(max_connections=4, max_keepalive_connections=1)
    urls = json.loads(sys.stdin.readline())
    clients = [httpx.AsyncClient(base_url=url, limits=limits, timeout=httpx.Timeout(None)) for url in urls]
    while sys.stdin.readline():
        print(json.dumps(await update(clients, directory)), flush=True)


uvloop.run(main())
