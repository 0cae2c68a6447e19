"""The error of a user's mistake, which binaries report in one line."""


class UserError(ValueError):
    """Something the user asked for cannot be done; the message says what would be.

    The binaries of `train` print it as one line on stderr and exit with code 1.
    """
