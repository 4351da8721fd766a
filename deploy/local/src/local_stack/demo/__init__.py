"""A whole on-sale on the local stack: fans with human habits, live progress, and a verdict."""
