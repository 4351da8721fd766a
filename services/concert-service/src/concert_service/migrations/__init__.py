"""The schema, one DDL a revision, forward only; `common.migrations` runs them."""
