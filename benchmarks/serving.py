"""Latency of `mlflow models serve` under concurrent load, measured by clients in another process.

python -m benchmarks.serving --model models:/kd-route@champion [--clients 1 4 16] [--seconds 20] [--texts 1]

The server is started from the registered version alone, on loopback, and stopped at the end. Each client sends its
next request when the last one is answered. Before and after the load, requests that nothing could answer are sent:
each must be refused with a 4xx and a reason, and the server must go on.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np

from benchmarks.texts import texts_of
from kd_ops.base.settings import Settings
from kd_ops.registry.registry import tracking_uri

START_SECONDS = 120
BAD = {
    "null": {"dataframe_records": [{"text": None}]},
    "an empty text": {"dataframe_records": [{"text": ""}]},
    "a list for a text": {"dataframe_records": [{"text": ["a"]}]},
    "half a character": {"dataframe_records": [{"text": "\ud83d"}]},
    "a list of lists": {"inputs": [["a"], ["b"]]},
    "no rows": {"dataframe_records": []},
    "another column": {"dataframe_records": [{"sentence": "a"}]},
    "a column twice": {"dataframe_split": {"columns": ["text", "text"], "data": [["a", "b"]]}},
    "a threshold of 7": {"dataframe_records": [{"text": "a"}], "params": {"threshold": 7.0}},
    "a threshold in words": {"dataframe_records": [{"text": "a"}], "params": {"threshold": "high"}},
}


def main() -> int:
    """Print a line for each number of clients; status 1 if a bad request was answered or ended the server."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="models:/NAME@ALIAS or models:/NAME/VERSION")
    parser.add_argument("--data", type=Path, help="Parquet file with a column `text`; default: see benchmarks/texts.py")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--texts", type=int, default=1, help="texts a request")
    asked = parser.parse_args()
    source, rows = texts_of(asked.data)
    texts = rows["text"].tolist()
    requests = [
        json.dumps({"dataframe_records": [{"text": text} for text in texts[start : start + asked.texts]]})
        for start in range(0, len(texts) - asked.texts + 1, asked.texts)
    ]
    print(f"{source}, {asked.texts} texts a request, {asked.seconds:g} s for each number of clients")
    with server(asked.model) as address:
        return asyncio.run(_measure(address, requests, asked.clients, asked.seconds))


@contextmanager
def server(model: str) -> Iterator[str]:
    """`mlflow models serve` on a free port of loopback; its address, once it answers. Raises TimeoutError."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    binaries = Path(sys.executable).parent
    environment = {
        **os.environ,
        "PATH": f"{binaries}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "MLFLOW_TRACKING_URI": tracking_uri(Settings()),
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    words = ["mlflow", "models", "serve", "-m", model, "--env-manager", "local", "-h", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(
        [str(binaries / words[0]), *words[1:]], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        address = f"http://127.0.0.1:{port}"
        _wait(process, port)
        yield address
    finally:
        process.terminate()
        process.wait(timeout=30)


def _wait(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with socket.socket() as trial:
            if trial.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.2)
    raise TimeoutError(f"mlflow models serve: not up (status {process.poll()}); run it by hand to see why")


async def _measure(address: str, requests: list[str], clients: list[int], seconds: float) -> int:
    async with aiohttp.ClientSession(address, headers={"Content-Type": "application/json"}) as session:
        refused = await _refused(session)
        for request in requests[:20]:
            await _ask(session, request)
        for count in clients:
            began = time.perf_counter()
            sources = [cycle(requests[place::count]) for place in range(count)]
            parts = await asyncio.gather(*(_client(session, source, began + seconds) for source in sources))
            took, spent = np.concatenate(parts) * 1e3, time.perf_counter() - began
            p50, p99 = np.percentile(took, [50, 99])
            print(
                f"{count:3} clients  {len(took) / spent:7.0f} requests/s  p50 {p50:6.1f} ms  p99 {p99:6.1f} ms",
                flush=True,
            )
        return 0 if await _refused(session) and refused else 1


async def _client(session: aiohttp.ClientSession, requests: Iterator[str], until: float) -> Any:
    """Seconds of each answer, [N]."""
    took = []
    while (began := time.perf_counter()) < until:
        await _ask(session, next(requests))
        took.append(time.perf_counter() - began)
    return np.array(took)


async def _ask(session: aiohttp.ClientSession, request: str) -> None:
    async with session.post("/invocations", data=request) as answer:
        answer.raise_for_status()
        await answer.read()


async def _refused(session: aiohttp.ClientSession) -> bool:
    """Whether every bad request gets a 4xx with a reason; those that do not are printed."""
    fine = True
    for name, body in {**BAD, "not JSON": None}.items():
        async with session.post("/invocations", data="{" if body is None else json.dumps(body)) as answer:
            said = await answer.text()
            if not 400 <= answer.status < 500 or not said:
                fine = False
                print(f"{name}: status {answer.status}, {said[:200]!r}")
    print(f"{len(BAD) + 1} bad requests: {'each refused with a 4xx and a reason' if fine else 'see above'}")
    return fine


if __name__ == "__main__":
    sys.exit(main())
