"""A connection that breaks: what had come before is not lost with it."""

from __future__ import annotations

import asyncio

import pytest

from mcp_proxy.core.http import NetworkTrouble, Trouble, UpstreamRequest
from mcp_proxy.transport.client import Client, tls

HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


@pytest.mark.parametrize("reset", [False, True])
async def test_what_came_before_a_cut_is_read_before_the_trouble(reset: bool) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(HEAD + b"5\r\nfirst\r\n6\r\nsecond\r\n")
        await writer.drain()
        await asyncio.sleep(0.05)
        if reset:
            writer.transport.abort()
        else:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    client = Client(tls())
    try:
        port = server.sockets[0].getsockname()[1]
        response = await client.send(UpstreamRequest("GET", f"http://127.0.0.1:{port}/", ()))
        await asyncio.sleep(0.2)  # the data and the end of the connection are both there before anything is read
        came = b""
        with pytest.raises(NetworkTrouble) as trouble:
            async for chunk in response.chunks():
                came += chunk
        assert came == b"firstsecond"
        assert trouble.value.trouble is Trouble.CUT
        await response.aclose()
    finally:
        await client.aclose()
        server.close()
        await server.wait_closed()
