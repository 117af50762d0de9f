"""What the local stack says when it cannot go on."""


class StackError(Exception):
    """The local stack cannot do what was asked; the message is one line that says what is wrong and what to do."""
