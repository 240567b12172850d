"""Tables of the ledger. One definition for SQLite and Postgres; ``migrations/`` creates them, and a test holds the two equal."""

from sqlalchemy import BigInteger, Boolean, Column, ForeignKey, Index, LargeBinary, MetaData, String, Table, Text, UniqueConstraint

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(column_0_label)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

principals = Table(
    "principals",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("name", String(200), nullable=False),
    Column("role", String(16), nullable=False),
    Column("tenant", String(200), nullable=False),
    Column("created_wall_ms", BigInteger, nullable=False),
    Column("disabled", Boolean, nullable=False),
    Column("password", String(300)),
    UniqueConstraint("kind", "name"),
)

keys = Table(
    "keys",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("digest", LargeBinary, nullable=False),
    Column("principal", String(64), ForeignKey("principals.id"), nullable=False, index=True),
    Column("tenant", String(200), nullable=False),
    Column("name", String(200), nullable=False),
    Column("role", String(16), nullable=False),
    Column("features", Text, nullable=False),
    Column("created_wall_ms", BigInteger, nullable=False),
    Column("expires_wall_ms", BigInteger),
    Column("revoked_wall_ms", BigInteger),
    Column("version", BigInteger, nullable=False, index=True),
)

counters = Table(
    "counters",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("value", BigInteger, nullable=False),
)

sessions = Table(
    "sessions",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("token_digest", String(64), nullable=False, unique=True),
    Column("principal", String(64), ForeignKey("principals.id"), nullable=False, index=True),
    Column("created_wall_ms", BigInteger, nullable=False),
    Column("expires_wall_ms", BigInteger, nullable=False),
    Column("once", Boolean, nullable=False),
)
"""Sessions, and with ``once`` the one-time login tokens. A revoked or used one is deleted; the audit log remembers."""

login_failures = Table(
    "login_failures",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("subject", String(200), nullable=False),
    Column("at_wall_ms", BigInteger, nullable=False),
    Index("ix_login_failures_subject_at", "subject", "at_wall_ms"),
)

audit = Table(
    "audit",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("at_wall_ms", BigInteger, nullable=False),
    Column("actor", String(200), nullable=False),
    Column("action", String(64), nullable=False),
    Column("subject", String(200), nullable=False, index=True),
    Column("detail", Text, nullable=False),
)

budgets = Table(
    "budgets",
    metadata,
    Column("id", String(300), primary_key=True),
    Column("scope", String(200), nullable=False, index=True),
    Column("unit", String(16), nullable=False),
    Column("period", String(16), nullable=False),
    Column("cap_wanted", BigInteger, nullable=False),
    Column("active", Boolean, nullable=False),
    Column("source", String(16), nullable=False),
)
"""``source`` is ``settings`` or ``ledger``; a new generation only touches the former."""

budget_periods = Table(
    "budget_periods",
    metadata,
    Column("budget", String(300), ForeignKey("budgets.id"), primary_key=True),
    Column("period_start_wall_ms", BigInteger, primary_key=True),
    Column("period_end_wall_ms", BigInteger, nullable=False),
    Column("cap", BigInteger, nullable=False),
    Column("spent", BigInteger, nullable=False),
    Column("leased", BigInteger, nullable=False),
    Column("overrun", BigInteger, nullable=False),
)

leases = Table(
    "leases",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("budget", String(300), ForeignKey("budgets.id"), nullable=False),
    Column("scope", String(200), nullable=False),
    Column("unit", String(16), nullable=False),
    Column("gateway", String(200), nullable=False),
    Column("request", String(200), nullable=False),
    Column("amount", BigInteger, nullable=False),
    Column("period_start_wall_ms", BigInteger, nullable=False),
    Column("granted_wall_ms", BigInteger, nullable=False),
    Column("expires_wall_ms", BigInteger, nullable=False),
    Column("spent", BigInteger, nullable=False),
    Column("state", String(16), nullable=False),
    Column("closing", Boolean, nullable=False),
    Index("ix_leases_state_expires", "state", "expires_wall_ms"),
    Index("ix_leases_gateway_state", "gateway", "state"),
    Index("ix_leases_budget_state", "budget", "state"),
)

generations = Table(
    "generations",
    metadata,
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("at_wall_ms", BigInteger, nullable=False),
    Column("digest", String(64), nullable=False),
    Column("path", Text, nullable=False),
    Column("diff", Text, nullable=False),
    Column("shown", Text, nullable=False),
)
