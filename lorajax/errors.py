"""The one exception that means: what the user gave us is wrong."""


class InputError(ValueError):
    """Bad input found at a boundary: a flag, a file, a model, an adapter.

    The message is one line that names the file or flag, the value seen and what was
    expected. `lorajax.launch` prints it without a traceback and exits with status 2;
    anything else that escapes is a defect of lorajax and keeps its traceback.
    """
