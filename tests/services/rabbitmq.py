"""RabbitMQ server for tests, from the system's package, on loopback with its own data folder and port mapper."""

import shutil
from contextlib import closing
from pathlib import Path

import amqp

from tests.services.ports import reserve_port
from tests.services.process import Identity, Server, start_server

PROGRAM = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
"""The script in /usr/sbin would change user and folders."""
QUEUES = ("live", "bulk", "duties")
CONFIGURATION = """
listeners.tcp.1 = 127.0.0.1:{port}
log.console = true
log.console.level = warning
vm_memory_high_watermark.absolute = 512MB
disk_free_limit.absolute = 50MB
raft.wal_max_size_bytes = 33554432
"""


def why_unavailable() -> str | None:
    """Return the reason why RabbitMQ cannot run on this machine, or None."""
    if PROGRAM.exists() and shutil.which("epmd"):
        return None
    return "needs RabbitMQ: apt-get install rabbitmq-server"


class RabbitMQ:
    """One node. After a stop, `launch` starts it again on the same port with the same data."""

    def __init__(self, directory: Path, identity: Identity | None = None, *, parameters: str = "") -> None:
        """`directory` must exist. parameters: of Erlang applications, as in `-rabbit NAME VALUE`."""
        self._parameters = parameters
        self.port = reserve_port()
        self._directory = directory
        self._identity = identity
        self._mapper_port = reserve_port()
        (directory / "rabbitmq.conf").write_text(CONFIGURATION.format(port=self.port))
        (directory / "enabled_plugins").write_text("[].\n")
        # Otherwise Erlang starts a port mapper that outlives the test.
        self._mapper = start_server(
            ["epmd", "-address", "127.0.0.1", "-port", str(self._mapper_port)],
            directory / "epmd.log",
            environment={},
            identity=identity,
        )
        self._server: Server | None = None
        self.url = f"amqp://guest:guest@127.0.0.1:{self.port}//"

    def launch(self) -> Server:
        """Start the node; returns before it is ready."""
        here = str(self._directory)
        self._server = start_server(
            [PROGRAM],
            self._directory / "rabbitmq.log",
            environment={
                "HOME": here,
                "ERL_EPMD_ADDRESS": "127.0.0.1",
                "ERL_EPMD_PORT": str(self._mapper_port),
                "RABBITMQ_CONF_ENV_FILE": f"{here}/none",
                "RABBITMQ_CONFIG_FILE": f"{here}/rabbitmq.conf",
                "RABBITMQ_ENABLED_PLUGINS_FILE": f"{here}/enabled_plugins",
                "RABBITMQ_DIST_PORT": str(reserve_port()),
                "RABBITMQ_GENERATED_CONFIG_DIR": here,
                "RABBITMQ_LOG_BASE": here,
                "RABBITMQ_LOGS": "-",
                "RABBITMQ_MNESIA_BASE": f"{here}/data",
                "RABBITMQ_NODENAME": f"fundus-{self.port}@localhost",
                "RABBITMQ_SCHEMA_DIR": here,
                "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": self._parameters,
                # Run the server without a wrapping shell.
                "RUNNING_UNDER_SYSTEMD": "true",
            },
            identity=self._identity,
        )
        return self._server

    def wait(self) -> None:
        """Wait until the node accepts clients."""
        assert self._server is not None
        self._server.wait_for(self.connect, (OSError, amqp.AMQPError)).close()

    def connect(self) -> amqp.Connection:
        """Open a connection."""
        connection = amqp.Connection(f"127.0.0.1:{self.port}", connect_timeout=2, read_timeout=10)
        connection.connect()
        return connection

    def delete_queues(self) -> None:
        """Delete the queues with their messages."""
        with closing(self.connect()) as connection, closing(connection.channel()) as channel:
            for queue in QUEUES:
                channel.queue_delete(queue)

    def stop(self) -> None:
        """Stop the node and its port mapper."""
        if self._server is not None:
            self._server.stop()
        self._mapper.stop()
