"""The wallet, its double-entry ledger, and the payment saga. It never makes or loses money."""
