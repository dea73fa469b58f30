"""A TLS server with a certificate of its own, in front of a server on loopback that speaks plain TCP."""

import asyncio
import shutil
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

PIECE = 16_384


@dataclass(frozen=True)
class Certificate:
    """A self-signed certificate and its key, as PEM files. The certificate is its own authority."""

    file: Path
    key: Path


@dataclass
class TlsServer:
    """A server on a port of loopback; `received` are the bytes that it has decrypted."""

    port: int = 0
    received: bytearray = field(default_factory=bytearray)


def make_certificate(folder: Path, name: str, *, alternative_name: str = "IP:127.0.0.1") -> Certificate:
    """Make a certificate for an address of the form `IP:...` or `DNS:...`; skip the test without openssl."""
    if shutil.which("openssl") is None:
        pytest.skip("this machine has no openssl")
    made = Certificate(folder / f"{name}.pem", folder / f"{name}.key")
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    files = ["-keyout", made.key, "-out", made.file]
    names = ["-days", "2", "-subj", f"/CN={name}", "-addext", f"subjectAltName={alternative_name}"]
    subprocess.run([*command, *files, *names], check=True, capture_output=True)
    return made


@contextmanager
def tls_server(
    upstream_port: int, certificate: Certificate, *, client_authority: Path | None = None
) -> Iterator[TlsServer]:
    """Run the server until the block ends. With `client_authority`, clients need a certificate of it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.file, certificate.key)
    if client_authority is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(client_authority)
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda *_: None)  # refused handshakes are the point
    thread = threading.Thread(target=loop.run_forever, name="tls-server")
    thread.start()
    described = TlsServer()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", upstream_port)
        sending = asyncio.create_task(_pump(reader, up_writer, described.received))
        try:
            await _pump(up_reader, writer)
        finally:
            sending.cancel()
            up_writer.close()
            writer.close()

    async def serve() -> asyncio.Server:
        return await asyncio.start_server(handle, "127.0.0.1", 0, ssl=context)

    server = asyncio.run_coroutine_threadsafe(serve(), loop).result(5)
    described.port = server.sockets[0].getsockname()[1]
    try:
        yield described
    finally:
        asyncio.run_coroutine_threadsafe(_close(server), loop).result(5)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, copy: bytearray | None = None) -> None:
    while piece := await reader.read(PIECE):
        if copy is not None:
            copy += piece
        writer.write(piece)
        await writer.drain()


async def _close(server: asyncio.Server) -> None:
    server.close()
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
