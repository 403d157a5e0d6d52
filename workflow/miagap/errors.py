"""Errors that a user can mend: one line each, shown without a traceback."""


class InputError(Exception):
    """Something the user gave is wrong.

    The message is one line that names the file and the key, says what was
    expected, and how to mend it. Scripts print it and exit with status 1.
    """
