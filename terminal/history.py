"""
What was typed before, for the arrow keys, from one session to the next.

    ~/.local/state/backgpt/texts.history, or below $XDG_STATE_HOME
"""

import contextlib
import os

from prompt_toolkit.history import FileHistory, InMemoryHistory

from program.files import user_folder


class History(FileHistory):
    """A file of what was typed, the newest last; what cannot be read or written any more is passed over."""

    def load_history_strings(self):
        try:
            return [*super().load_history_strings()]
        except OSError:
            return []

    def store_string(self, string):
        with contextlib.suppress(OSError):
            super().store_string(string)


def open_history(name):
    """The history of this name in the user's folder of state, for nobody else to read.

    Where there can be no such file, or name is None, it lasts as long as the session.
    """
    if name is None:
        return InMemoryHistory()
    try:
        path = user_folder("state") / f"{name}.history"
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))
        return History(path)
    except (OSError, RuntimeError):  # RuntimeError: this user has no home
        return InMemoryHistory()
