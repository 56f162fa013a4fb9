"""What the hub counts of itself while it works; `driftline.hub.scrape` shows it to Prometheus.

No label has a value that a caller or a device can make up: a request's route is the one that was declared, never its
address, and no device has a line of its own.
"""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

# From what is answered out of memory to what nobody waits for any more.
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
TOGETHER = (1, 2, 5, 10, 20, 50, 100, 200)


class Figures:
    """The counters of one hub, each in a registry of its own: tests run many hubs in a process."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)

        # ── while it happens ─────────────────────────────────────────────────────────────────────────────────────
        self.requests = Counter(
            "driftline_http_requests", "Requests answered.", ("method", "route", "status"), registry=registry
        )
        self.request_s = Histogram(
            "driftline_http_request_seconds",
            "From a request's head to the end of its answer.",
            ("route",),
            buckets=SECONDS,
            registry=registry,
        )
        self.batches = Counter("driftline_batches", "Batches of devices that were committed.", registry=registry)
        self.records = Counter("driftline_records", "New records that were stored.", ("kind",), registry=registry)
        self.summaries = Counter(
            "driftline_summaries", "New summaries that were stored, one a field and base window.", registry=registry
        )
        self.again = Counter("driftline_records_again", "Records that had come before.", registry=registry)
        self.conflicts = Counter(
            "driftline_records_in_conflict", "Records that say something else than what came before.", registry=registry
        )
        self.refused = Counter(
            "driftline_records_refused", "Records that can never be taken; the device is told why.", registry=registry
        )
        self.together = Histogram(
            "driftline_commit_batches", "Batches committed in one transaction.", buckets=TOGETHER, registry=registry
        )
        self.commit_s = Histogram(
            "driftline_commit_seconds", "How long such a transaction took.", buckets=SECONDS, registry=registry
        )
        self.answers = Counter(
            "driftline_analyses",
            "Answers the scorer stored, one an assay, device, field and window.",
            registry=registry,
        )

        # ── when somebody asks ───────────────────────────────────────────────────────────────────────────────────
        self.build = Gauge("driftline_build_info", "The version that runs.", ("version",), registry=registry)
        self.scorer_lag_s = Gauge(
            "driftline_scorer_lag_seconds",
            "How long ago the oldest window ended that waits for its first answer; a sync interval or two is usual.",
            registry=registry,
        )
        self.threads = Gauge(
            "driftline_thread_running", "Whether what must go on does.", ("thread",), registry=registry
        )
        self.assays = Gauge("driftline_assays", "Standing assays.", ("state",), registry=registry)
        self.incidents = Gauge("driftline_incidents_open", "Open incidents.", ("kind",), registry=registry)
        self.notifications = Gauge("driftline_notifications", "The outbox.", ("state",), registry=registry)
        self.oldest_waiting_s = Gauge(
            "driftline_notifications_overdue_seconds", "How long the oldest notification is overdue.", registry=registry
        )
        self.devices = Gauge("driftline_devices", "Devices of the fleet.", registry=registry)
        self.devices_in = Gauge(
            "driftline_devices_in_state", "Devices by state; one may be in several.", ("state",), registry=registry
        )
        self.database_bytes = Gauge("driftline_database_bytes", "The size of the database.", registry=registry)
        self.disk_free_bytes = Gauge("driftline_disk_free_bytes", "Room on the disk of --home.", registry=registry)

    def asked(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request that was answered."""
        self.requests.labels(method, route, str(status)).inc()
        self.request_s.labels(route).observe(seconds)

    def committed(self, batches: int, seconds: float) -> None:
        """Count a transaction that committed so many batches."""
        self.together.observe(batches)
        self.commit_s.observe(seconds)
