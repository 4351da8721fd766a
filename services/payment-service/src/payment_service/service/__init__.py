"""Use cases: one transaction each, the change and the events that tell of it together."""
