"""Redis scripts; each file says what it is given and what it answers."""
