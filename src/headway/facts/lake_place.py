"""Where a DuckLake is, as plain values. Holds secrets: never shown, never written."""

import msgspec


class S3Place(msgspec.Struct, frozen=True, kw_only=True):
    """How to reach the bucket."""

    endpoint: str = ""
    """http://HOST:PORT or https://HOST; empty is Amazon's."""
    region: str = "us-east-1"
    key: str = ""
    secret: str = ""

    def __repr__(self) -> str:
        return f"S3Place({self.endpoint!r})"


class LakePlace(msgspec.Struct, frozen=True, kw_only=True):
    """A catalog in Postgres and a place for Parquet files."""

    catalog: str
    """Address of the database, as SQLAlchemy or libpq write it."""
    schema: str
    data: str
    """s3://BUCKET/PREFIX or the absolute path of a folder."""
    s3: S3Place | None = None

    def __repr__(self) -> str:
        return f"LakePlace({self.schema!r} at {self.data!r})"
