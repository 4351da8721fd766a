"""Everything reservation-service keeps: every SQL statement, and the claims in Redis."""
