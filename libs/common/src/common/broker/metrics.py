"""What consumers and publishers count. Labels are queue names and outcomes, never ids."""

from prometheus_client import Counter, Gauge, Histogram

HANDLED = Counter(
    "stagedoor_messages_handled_total", "Messages handled and acknowledged.", ["queue"]
)
RETRIED = Counter(
    "stagedoor_messages_retried_total",
    "Messages that failed by their own fault and were sent round again.",
    ["queue"],
)
PARKED = Counter(
    "stagedoor_messages_parked_total", "Messages given up and parked.", ["queue", "reason"]
)
PAUSED_SECONDS = Counter(
    "stagedoor_consumer_paused_seconds_total",
    "Seconds a queue waited in place because a dependency was away.",
    ["queue"],
)
BATCH_SIZE = Histogram(
    "stagedoor_lane_batch_messages",
    "Messages decided together.",
    ["queue"],
    buckets=(1, 2, 5, 10, 20, 50, 100, 200),
)
IN_HAND = Gauge(
    "stagedoor_lane_in_hand_messages", "Messages delivered here and not yet decided.", ["queue"]
)
LANES_ACTIVE = Gauge(
    "stagedoor_lanes_active",
    "Lanes this process is the active consumer of and was given messages from.",
)
PUBLISHED = Counter(
    "stagedoor_messages_published_total",
    "Publishes by outcome: confirmed, unroutable, refused, timeout, disconnected.",
    ["exchange", "outcome"],
)
