"""The exception of the local stack."""


class StackError(Exception):
    """The local stack cannot do what was requested; the message is one line with the cause and the fix."""
