"""A Kafka-protocol cluster of one broker in one small process: librdkafka's mock cluster.

`python -m local_stack.kafka_mock --port 9092 --topic stagedoor.payments.v1:6`

The Python binding of librdkafka does not reach the calls that are needed (topics made
beforehand, an advertised address), so they are made through ctypes on the library it brings. The
mock broker listens on a random port; a small TCP forwarder gives it a fixed one. Everything is
in memory: the topic is empty again after a restart of this process.
"""

import argparse
import asyncio
import ctypes
import signal
import sys
from contextlib import suppress
from importlib import metadata
from pathlib import Path

import confluent_kafka

CHUNK_BYTES = 65_536
_PRODUCER = 0  # rd_kafka_type_t
_BROKER_ID = 1


class MockCluster:
    """librdkafka's mock cluster; lives as long as the process."""

    def __init__(self, *, advertised_host: str, advertised_port: int) -> None:
        self._library = _librdkafka()
        error = ctypes.create_string_buffer(512)
        configuration = self._library.rd_kafka_conf_new()
        client = self._library.rd_kafka_new(_PRODUCER, configuration, error, len(error))
        if not client:
            raise RuntimeError(f"librdkafka: {error.value.decode()}")
        self._cluster = self._library.rd_kafka_mock_cluster_new(client, 1)
        if not self._cluster:
            raise RuntimeError("librdkafka made no mock cluster")
        bootstraps = self._library.rd_kafka_mock_cluster_bootstraps(self._cluster)
        host, _, port = bootstraps.decode().rpartition(":")
        self.address = (host, int(port))
        """Where the mock broker really listens."""
        # Clients take the address from the metadata: it must be the forwarder's.
        self._library.rd_kafka_mock_broker_set_host_port(
            self._cluster, _BROKER_ID, advertised_host.encode(), advertised_port
        )

    def create_topic(self, name: str, partitions: int) -> None:
        """Make a topic."""
        code = self._library.rd_kafka_mock_topic_create(self._cluster, name.encode(), partitions, 1)
        if code:
            raise RuntimeError(f"topic {name}: librdkafka error {code}")


def _librdkafka() -> ctypes.CDLL:
    """The library that the confluent-kafka wheel carries, with the signatures used here."""
    bundled = Path(confluent_kafka.__file__).parent.parent / "confluent_kafka.libs"
    files = sorted(bundled.glob("librdkafka*.so*"))
    if not files:
        version = metadata.version("confluent-kafka")
        raise RuntimeError(f"confluent-kafka {version} brings no librdkafka in {bundled}")
    library = ctypes.CDLL(str(files[0]))
    pointer, text, number = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int
    signatures: dict[str, tuple[object, list[object]]] = {
        "rd_kafka_conf_new": (pointer, []),
        "rd_kafka_new": (pointer, [number, pointer, text, ctypes.c_size_t]),
        "rd_kafka_mock_cluster_new": (pointer, [pointer, number]),
        "rd_kafka_mock_cluster_bootstraps": (text, [pointer]),
        "rd_kafka_mock_topic_create": (number, [pointer, text, number, number]),
        "rd_kafka_mock_broker_set_host_port": (None, [pointer, ctypes.c_int32, text, number]),
    }
    for name, (result, arguments) in signatures.items():
        function = getattr(library, name)
        function.restype = result
        function.argtypes = arguments
    return library


async def forward(port: int, target: tuple[str, int]) -> None:
    """Forward ``127.0.0.1:port`` to the mock broker until SIGTERM or SIGINT."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            target_reader, target_writer = await asyncio.open_connection(*target)
        except OSError:
            writer.close()
            return
        await asyncio.gather(_pipe(reader, target_writer), _pipe(target_reader, writer))

    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    server = await asyncio.start_server(handle, "127.0.0.1", port)
    await stopped.wait()
    server.close()


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while chunk := await reader.read(CHUNK_BYTES):
            writer.write(chunk)
            await writer.drain()
    writer.close()


def main(arguments: list[str] | None = None) -> int:
    """Run the cluster in the foreground."""
    parser = argparse.ArgumentParser(prog="python -m local_stack.kafka_mock")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--topic", action="append", default=[], metavar="NAME:PARTITIONS")
    chosen = parser.parse_args(arguments)
    cluster = MockCluster(advertised_host="127.0.0.1", advertised_port=chosen.port)
    for topic in chosen.topic:
        name, _, partitions = topic.rpartition(":")
        cluster.create_topic(name, int(partitions))
    asyncio.run(forward(chosen.port, cluster.address))
    return 0


if __name__ == "__main__":
    sys.exit(main())
