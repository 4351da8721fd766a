"""The schema `reservation`, one DDL a revision, forward only."""
