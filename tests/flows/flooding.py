"""A client without manners, in a process of its own: as many requests as fit into some seconds.

`python -m tests.flows.flooding SOURCE URL COUNT SECONDS` prints how often each status came.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import sys
from collections import Counter
from urllib.parse import urlsplit

CONNECTIONS = 8


async def ask(url: str, source: str, left: list[int], seen: Counter[str]) -> None:
    """One connection, which asks again as soon as it is answered."""
    parts = urlsplit(url)
    context = None
    if parts.scheme == "https":
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    reader, writer = await asyncio.open_connection(
        parts.hostname, parts.port, local_addr=(source, 0), ssl=context
    )
    request = (
        f"GET {parts.path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer wrong\r\n\r\n".encode()
    )
    while left[0] > 0:
        left[0] -= 1
        writer.write(request)
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        seen[head.split(" ", 2)[1]] += 1
        length = head.partition("content-length: ")[2].partition("\r\n")[0]
        await reader.readexactly(int(length))
    writer.close()


async def flood(source: str, url: str, count: int, seconds: float) -> Counter[str]:
    seen: Counter[str] = Counter()
    left = [count]
    asking = [asyncio.create_task(ask(url, source, left, seen)) for _ in range(CONNECTIONS)]
    _, late = await asyncio.wait(asking, timeout=seconds)
    for task in late:
        task.cancel()
    return seen


if __name__ == "__main__":
    source, url, count, seconds = sys.argv[1:]
    print("started", flush=True)
    print(json.dumps(asyncio.run(flood(source, url, int(count), float(seconds)))))
