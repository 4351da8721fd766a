"""A seating plan of any size for the demo and the tests."""
