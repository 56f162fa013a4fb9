"""Tables of people, their roles, what they log in with, and what they changed.

Secrets are kept as their SHA-256: they have 256 random bits, so that nothing slower is needed. Only passwords, which
people choose, are hashed with argon2. Logins follow real time, never the clock of a demo.
"""

from sqlalchemy import JSON, BigInteger, Boolean, Column, ForeignKey, Index, Integer, String, Table

from driftline.hub.store.database import metadata

people = Table(
    "people",
    metadata,
    Column("id", String, primary_key=True),
    Column("name", String, nullable=False, unique=True),
    Column("password", String, nullable=False),
    Column("is_admin", Boolean, nullable=False),
    Column("created_ns", BigInteger, nullable=False),
)

roles = Table(
    "roles",
    metadata,
    Column("person", ForeignKey("people.id", ondelete="CASCADE"), primary_key=True),
    Column("workspace", ForeignKey("workspaces.id", ondelete="CASCADE"), primary_key=True),
    Column("role", String, nullable=False),
)

# Kinds: session (a browser's cookie), access and refresh (a program that somebody let in), token (an API token). An
# access and its refresh share a family: a refresh that comes twice was stolen, and ends both.
credentials = Table(
    "credentials",
    metadata,
    Column("id", String, primary_key=True),
    Column("hash", String, nullable=False, unique=True),
    Column("kind", String, nullable=False),
    Column("person", ForeignKey("people.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("label", String, nullable=False),
    Column("scope", String, nullable=False),
    Column("family", String, nullable=False, index=True),
    Column("created_real_ns", BigInteger, nullable=False),
    Column("expires_real_ns", BigInteger, nullable=False),
    Column("used_real_ns", BigInteger),
)

# A program that waits to be let in (RFC 8628); `person` is who decided.
device_codes = Table(
    "device_codes",
    metadata,
    Column("hash", String, primary_key=True),
    Column("user_code", String, nullable=False, unique=True),
    Column("label", String, nullable=False),
    Column("scope", String, nullable=False),
    Column("state", String, nullable=False),  # pending, allowed, denied
    Column("person", ForeignKey("people.id", ondelete="CASCADE")),
    Column("interval_s", Integer, nullable=False),
    Column("polled_real_ns", BigInteger, nullable=False),
    Column("expires_real_ns", BigInteger, nullable=False),
)

# The audit trail; never changed. A name is kept beside the id: the person may be gone one day.
changes = Table(
    "changes",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("at_ns", BigInteger, nullable=False),
    Column("person", String),
    Column("name", String, nullable=False),
    Column("address", String, nullable=False),
    Column("workspace", String, index=True),
    Column("what", String, nullable=False),  # the route's handler, such as save_assay
    Column("subject", String, nullable=False),  # what it was about, by id or name
    Column("before", JSON(none_as_null=True)),
    Column("after", JSON(none_as_null=True)),
    Index("changes_by_time", "at_ns"),
)
