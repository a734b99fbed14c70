"""
Signals that end a run: they let the loop finish its update and save.
"""

import contextlib
import os
import signal

from program.ranks import launched


class StopSignals:
    """SIGINT, SIGTERM and SIGHUP (a closed terminal) ask the loop to finish its update; a SIGINT after that ends the
    program at once. Where SIGHUP is ignored, as under nohup, it stays so."""

    def __init__(self, speaks=True):
        self.speaks = speaks

    def __enter__(self):
        self.received, self.number = None, 0
        numbers = [signal.SIGINT, signal.SIGTERM]
        if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # Windows has none
            numbers.append(signal.SIGHUP)
        self.previous = {number: signal.signal(number, self.receive) for number in numbers}
        return self

    def receive(self, number, frame):
        self.received, self.number = signal.Signals(number).name, number
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if launched() and not (self.speaks and number == signal.SIGINT):
            return  # torchrun sends a SIGTERM of its own where another process has died, and passes no second Ctrl-C on
        again = "" if launched() else " Ctrl-C again stops at once."
        with contextlib.suppress(OSError):  # the terminal may be what has gone
            os.write(2, f"\n{self.received}: finishing this update, then saving.{again}\n".encode())

    def __exit__(self, error, *_):
        for number, handler in self.previous.items():  # what ends the run is said, even if torchrun sends its SIGTERM
            signal.signal(number, signal.SIG_IGN if error and launched() and number == signal.SIGTERM else handler)
