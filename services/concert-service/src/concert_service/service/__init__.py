"""The use cases: one transaction each, or one answer to many readers."""
