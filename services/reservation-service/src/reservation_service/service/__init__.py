"""Use cases: one transaction each, a change of the domain and its events."""
