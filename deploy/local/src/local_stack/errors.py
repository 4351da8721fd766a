"""What can go wrong while a stack is started or stopped."""


class StackError(Exception):
    """A part did not start, stop or answer; the text is one readable line for a person."""
