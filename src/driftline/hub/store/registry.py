"""Tables of workspaces, models, pipelines and grids."""

from sqlalchemy import BigInteger, Column, ForeignKey, Integer, String, Table, UniqueConstraint

from driftline.hub.store.database import Json, metadata

workspaces = Table(
    "workspaces",
    metadata,
    Column("id", String, primary_key=True),
    Column("name", String, nullable=False, unique=True),
    Column("created_ns", BigInteger, nullable=False),
)

models = Table(
    "models",
    metadata,
    Column("id", String, primary_key=True),
    Column("workspace", ForeignKey("workspaces.id"), nullable=False, index=True),
    Column("name", String, nullable=False),
    Column("version", String, nullable=False),
    Column("framework", String, nullable=False),
    Column("digest", String, nullable=False, index=True),
    Column("size", BigInteger, nullable=False),
    Column("status", String, nullable=False),
    Column("error", String),
    Column("created_ns", BigInteger, nullable=False),
    Column("input_schema", Json, nullable=False),
    Column("output_schema", Json, nullable=False),
    Column("detector", Json),
)

pipelines = Table(
    "pipelines",
    metadata,
    Column("id", String, primary_key=True),
    Column("workspace", ForeignKey("workspaces.id"), nullable=False, index=True),
    Column("name", String, nullable=False),
    Column("created_ns", BigInteger, nullable=False),
    Column("undeployed_ns", BigInteger),
    UniqueConstraint("workspace", "name"),
)

# A version is never changed; `number` orders the versions of a pipeline.
versions = Table(
    "pipeline_versions",
    metadata,
    Column("id", String, primary_key=True),
    Column("pipeline", ForeignKey("pipelines.id"), nullable=False, index=True),
    Column("number", Integer, nullable=False),
    Column("created_ns", BigInteger, nullable=False),
    Column("definition", Json, nullable=False),
    UniqueConstraint("pipeline", "number"),
)

# A grid is never changed: its id is made of its edges.
grids = Table("grids", metadata, Column("id", String, primary_key=True), Column("edges", Json, nullable=False))

# On which grid devices count a field now; `origin` is learned or baseline, none is the universal grid.
field_grids = Table(
    "field_grids",
    metadata,
    Column("pipeline", ForeignKey("pipelines.id"), primary_key=True),
    Column("field", String, primary_key=True),
    Column("grid", ForeignKey("grids.id"), nullable=False),
    Column("origin", String, nullable=False),
)

# What assays named that is not recorded by default.
extra_fields = Table(
    "extra_fields",
    metadata,
    Column("pipeline", ForeignKey("pipelines.id"), primary_key=True),
    Column("field", String, primary_key=True),
)

# How the vectors that assays watch as a whole become numbers; never changed. `projection` is a VectorProjection. A new
# version of a pipeline may have longer ones, hence the size.
projections = Table(
    "projections",
    metadata,
    Column("pipeline", ForeignKey("pipelines.id"), primary_key=True),
    Column("field", String, primary_key=True),
    Column("size", Integer, primary_key=True),
    Column("projection", Json, nullable=False),
)
