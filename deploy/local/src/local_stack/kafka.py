"""The Kafka mock cluster as a part of the stack."""

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from local_stack.layout import Layout
from local_stack.ports import Ports
from local_stack.supervisor import ProgramSpec

NAME = "kafka"
TOPIC = "stagedoor.payments.v1"
PARTITIONS = 6


def program(layout: Layout, ports: Ports) -> ProgramSpec:
    """The process that `local_stack.kafka_mock` describes."""
    return ProgramSpec(
        name=NAME,
        command=(
            str(layout.python),
            "-m",
            "local_stack.kafka_mock",
            f"--port={ports.kafka}",
            f"--topic={TOPIC}:{PARTITIONS}",
        ),
        stop_wait_seconds=5,
    )


def bootstrap(ports: Ports) -> str:
    """``host:port`` for clients."""
    return f"127.0.0.1:{ports.kafka}"


def answers(ports: Ports) -> bool:
    """Whether the cluster knows the payment topic."""
    client = AdminClient({"bootstrap.servers": bootstrap(ports), "log_level": 0})
    try:
        topics = client.list_topics(timeout=1).topics
    except KafkaException:
        return False
    return TOPIC in topics and len(topics[TOPIC].partitions) == PARTITIONS
