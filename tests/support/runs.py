"""A training run watched from outside, and scripts called in this process."""

import dataclasses
import json
import sys
from unittest.mock import patch

from tests.support.processes import wait_until


def call(script, *arguments):
    """Run a script's main() in this process."""
    with (patch.object(script, "end_with_pipe", create=True),  # it would change those of the tests
          patch.object(sys, "argv", [script.__name__, *map(str, arguments)])):
        script.main()


def settings_class(script):
    """The dataclass that becomes a script's flags: its own, or the one that it takes from training/settings.py."""
    found = [value for name, value in vars(script).items()
             if name.endswith("Settings") and name != "LoopSettings" and dataclasses.is_dataclass(value)]
    [found] = [value for value in found if value.__module__ == script.__name__] or found
    return found


def rows(out):
    """The rows of metrics.jsonl in a run's folder."""
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def wait_for_update(process, out, iter_num):
    """Wait until the run has logged an update of at least iter_num; fail when it ends before."""
    def there():
        if not (out / "metrics.jsonl").exists():
            return False
        whole = (out / "metrics.jsonl").read_text().rpartition("\n")[0].splitlines()
        return bool(whole) and json.loads(whole[-1])["iter"] >= iter_num

    wait_until(there, process, seconds=60)
