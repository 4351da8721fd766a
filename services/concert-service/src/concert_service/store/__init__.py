"""Every SQL statement and every Redis script of the service."""
