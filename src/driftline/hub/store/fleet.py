"""Tables of devices, join tokens and what each device is to run."""

from sqlalchemy import BigInteger, Boolean, Column, Float, ForeignKey, LargeBinary, String, Table

from driftline.hub.store.database import Json, metadata

# A name belongs to one device for ever; a removed one keeps its row, and its history, and may join again.
devices = Table(
    "devices",
    metadata,
    Column("id", String, primary_key=True),
    Column("name", String, nullable=False, unique=True),
    Column("key", LargeBinary),
    Column("created_ns", BigInteger, nullable=False),
    Column("joined_ns", BigInteger),
    Column("removed_ns", BigInteger),
    Column("heard_ns", BigInteger),
    Column("last_request", BigInteger, nullable=False, default=0),
    # The last request whose batch was committed, as the device was told: see `hub.intake`.
    Column("synced_request", BigInteger, nullable=False, default=0),
    # Its spools' epochs, the present one last, and when two machines were last seen to use its identity.
    Column("epochs", Json, nullable=False, default=list),
    Column("conflict_ns", BigInteger),
    # How its owner wants its link used: see `wire.device.Desired`.
    Column("rows_kb_a_day", BigInteger),
    Column("newest_first", Boolean, nullable=False, default=False),
    # Where it is, as its owner says; what happens at one site is one incident.
    Column("site", String),
    # What the device said of itself with its last sync: see `wire.device.BatchHead`.
    Column("interval_s", Float, nullable=False, default=60.0),
    Column("backlog", BigInteger, nullable=False, default=0),
    Column("waiting", Json, nullable=False, default=dict),
    Column("software", String, nullable=False, default=""),
    Column("serving", String),
    Column("pipelines", Json, nullable=False, default=dict),
    Column("limits", Json, nullable=False, default=dict),
    Column("sources", Json, nullable=False, default=dict),
    Column("complete_until_ns", Json, nullable=False, default=dict),
    # What it last said of its clock: how far ours is ahead of it and how wrong that may be, `offset_ns`, `error_ns`.
    Column("clock", Json, nullable=False, default=dict),
    # How many records of each kind it had to drop, by its own account, and how many the hub refused.
    Column("dropped", Json, nullable=False, default=dict),
    # When the hub last heard that windows had to go.
    Column("dropped_ns", BigInteger),
)

# Tokens follow real time, never the clock of a demo; only the secret's SHA-256 is kept.
tokens = Table(
    "tokens",
    metadata,
    Column("hash", String, primary_key=True),
    Column("device", ForeignKey("devices.id"), nullable=False, index=True),
    Column("expires_real_ns", BigInteger, nullable=False),
    Column("used_real_ns", BigInteger),
)

# The version of each pipeline that a device is to run now.
assignments = Table(
    "assignments",
    metadata,
    Column("device", ForeignKey("devices.id"), primary_key=True),
    Column("pipeline", ForeignKey("pipelines.id"), primary_key=True),
    Column("version", ForeignKey("pipeline_versions.id"), nullable=False),
    Column("publish", String),
    Column("limits", Json, nullable=False, default=dict),
)

# Every version a device was ever given: late records of an old version are still its own.
grants = Table(
    "grants",
    metadata,
    Column("device", ForeignKey("devices.id"), primary_key=True),
    Column("version", ForeignKey("pipeline_versions.id"), primary_key=True),
)

publishes = Table(
    "publishes",
    metadata,
    Column("id", String, primary_key=True),
    Column("pipeline", ForeignKey("pipelines.id"), nullable=False, index=True),
    Column("version", ForeignKey("pipeline_versions.id"), nullable=False),
    Column("created_ns", BigInteger, nullable=False),
)
