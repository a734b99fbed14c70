"""
The first moments of a program at which a person waits: imported before the libraries, which take a second to load.

Says at once that something is coming, ends quietly at Ctrl-C, and tells how to begin where the libraries are not there.
"""

import importlib.util
import signal
import sys

if importlib.util.find_spec("torch") is None:
    sys.exit("PyTorch is not installed for this Python. Activate the environment that has it:\n"
             "    . .venv/bin/activate            # bash demo.sh makes it, where there is none")
signal.signal(signal.SIGINT, signal.SIG_DFL)  # until program.settings.launch: no traceback from half an import
SHOWN = sys.stderr is not None and sys.stderr.isatty()
if SHOWN:
    sys.stderr.write("Loading …")
    sys.stderr.flush()


def over():
    """The libraries are there."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if SHOWN:
        sys.stderr.write("\r\x1b[K")
        sys.stderr.flush()
