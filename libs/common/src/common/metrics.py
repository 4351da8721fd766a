"""Collectors that more than one service has; a service's own figures live beside their code.

They belong to the process, not to an application object: one process runs one service. What HTTP
measures has a registry for each application (`common.web`), so that tests may build several.
"""

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

registry: CollectorRegistry = REGISTRY

SHORT_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)

outbox_oldest_seconds = Gauge(
    "stagedoor_outbox_oldest_seconds", "Age of the oldest row not yet published", ["destination"]
)
outbox_rows = Gauge(
    "stagedoor_outbox_rows", "Rows waiting to be published, counted up to a limit", ["destination"]
)
outbox_published = Counter(
    "stagedoor_outbox_published", "Rows published and confirmed", ["destination"]
)
dependency_failures = Counter(
    "stagedoor_dependency_failures", "Calls a dependency did not answer", ["dependency"]
)
database_transactions = Counter(
    "stagedoor_database_transactions", "Transactions by outcome", ["outcome"]
)
database_seconds = Histogram(
    "stagedoor_database_transaction_seconds", "Time of one transaction", buckets=SHORT_SECONDS
)
replica_lag_seconds = Gauge(
    "stagedoor_replica_lag_seconds", "Age of the newest heartbeat seen through the replica"
)

job_runs = Counter("stagedoor_job_runs", "Runs of periodic jobs by outcome", ["job", "outcome"])
job_seconds = Histogram(
    "stagedoor_job_seconds", "Time one run of a job took", ["job"], buckets=SHORT_SECONDS
)
ready = Gauge("stagedoor_ready", "1 while the process is ready")
