"""
Bars of progress, all of one kind.
"""

from tqdm import tqdm


def bar(total, unit, what):
    """A context in which update(n) moves a bar that goes when it is done; nothing reaches a pipe."""
    return tqdm(total=total, unit=f" {unit}", desc=what, leave=False, dynamic_ncols=True, disable=None)
