"""The waiting room: a fair place in line, an honest wait, and the pass to get in."""
