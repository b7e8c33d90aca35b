"""The error of an input that cannot be used."""


class InputError(ValueError):
    """A user's input cannot be used: one line that names the parameter, the config's field or the file, and what to do.

    The command line prints it without a traceback. Any other error is a bug of ours or of a library, and keeps its traceback.
    """
