"""RabbitMQ: confirmed publishing, and consuming that loses, repeats and reorders nothing."""

from common.broker.client import Broker
from common.broker.ordered import Delivery, OrderedSubscription
from common.broker.publishing import UnroutableMessage
from common.broker.subscription import Subscription
from common.broker.topology import LANES, LANES_EXCHANGE, lane_key, lane_queue

__all__ = [
    "LANES",
    "LANES_EXCHANGE",
    "Broker",
    "Delivery",
    "OrderedSubscription",
    "Subscription",
    "UnroutableMessage",
    "lane_key",
    "lane_queue",
]
