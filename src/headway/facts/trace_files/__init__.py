"""Traces as others write them: OTLP in protobuf and JSON, Jaeger's JSON, columns in Parquet. Loaded by who reads such, never by the gateway."""
