"""Every SQL statement of payment-service.

Locks are taken in one order everywhere, so that no two transactions wait for each other: inbox
row, wallet row, payment row, payable row; then rows are only inserted.
"""
