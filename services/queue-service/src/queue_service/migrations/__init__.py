"""Schema ``queue``: one DDL statement a revision, forward only."""
