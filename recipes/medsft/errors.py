"""Errors that a script turns into one line and an exit status."""


class UserError(Exception):
    """The input or the configuration is wrong. The message is one line that names what is wrong and the remedy."""


class DoesNotFit(Exception):  # noqa: N818 - it is a finding about the machine, not an error
    """This machine cannot do it (memory, disk, device). The message says what would fit."""
