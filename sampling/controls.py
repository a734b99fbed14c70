"""
Every knob of sampling, once: the flags of the samplers, the commands of their prompt and the help of both derive from
the fields of Controls, and so does what generate() refuses.

    str(Controls())      "temp=0.8 top_k=200 top_p=off min_p=off tokens=500 seed=off n=1"
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import NamedTuple

import docstring_parser


class Knob(NamedTuple):
    """What is known of a field besides its name, its default and its docstring."""

    command: str    # its name at the prompt
    kind: type      # float or int
    fits: Callable  # whether a value may be taken
    takes: str      # the same in words
    off: tuple      # further values that mean None; empty where the knob cannot be switched off


def knob(default, command, kind, fits, takes, off=()):
    """A field of Controls."""
    return field(default=default, metadata={"knob": Knob(command, kind, fits, takes, off)})


@dataclass
class Controls:
    """How samples are drawn."""
    # Takes strings too, "off" among them, which becomes None; raises ValueError for a value that does not fit.

    temperature: float = knob(0.8, "temp", float, lambda v: 0 <= v < math.inf, "a number, 0 or above")
    """0 always writes the likeliest token; the higher, the bolder."""
    top_k: int | None = knob(200, "top_k", int, lambda v: v >= 1, "a whole number, 1 or above, or off", ("off", "0"))
    """Choose among the k likeliest tokens; 0 is off."""
    top_p: float | None = knob(
        None, "top_p", float, lambda v: 0 < v <= 1, "a number above 0 and up to 1, or off", ("off",))
    """Choose among the fewest likeliest tokens that sum to p; off, as by default, among all."""
    min_p: float | None = knob(
        None, "min_p", float, lambda v: 0 <= v < 1, "a number from 0 to below 1, or off", ("off",))
    """Drop tokens less than p times as likely as the likeliest; off, as by default, none."""
    tokens: int = knob(500, "tokens", int, lambda v: v >= 1, "a whole number, 1 or above")
    """The most tokens that one sample may get."""
    seed: int | None = knob(None, "seed", int, lambda v: 0 <= v < 2**63, "a whole number, 0 or above, or off", ("off",))
    """The same seed, number of samples and text give the same samples; without one a fresh seed is drawn each time."""
    num_samples: int = knob(1, "n", int, lambda v: 1 <= v <= 64, "a whole number from 1 to 64")
    """Samples for each text."""

    def __post_init__(self):
        for name, k in self.knobs().items():
            value = getattr(self, name)
            off = k.off and (value is None or str(value) in k.off)
            try:
                cut = k.kind is int and isinstance(value, float) and value != int(value)  # to a whole number
                fits = off or not cut and k.fits(k.kind(value))
            except (ValueError, TypeError, OverflowError):
                fits = False
            if not fits:
                raise ValueError(f"{k.command}={value} does not fit: {k.command}= takes {k.takes}.")
            setattr(self, name, None if off else k.kind(value))

    @classmethod
    def knobs(cls):
        """Every Knob by the name of its field, those of a subclass included."""
        return {f.name: f.metadata["knob"] for f in fields(cls)}

    @classmethod
    def help_of(cls, name):
        """The docstring of a field."""
        return next(p.description for owner in cls.__mro__ for p in docstring_parser.parse_from_object(owner).params
                    if p.arg_name == name)

    def __str__(self):
        """The commands that set these values."""
        values = {k.command: getattr(self, name) for name, k in self.knobs().items()}
        return " ".join(f"{command}={'off' if value is None else value}" for command, value in values.items())

    def filters(self):
        """The options of generate() that decide what may be drawn."""
        return {name: getattr(self, name) for name in FILTERS}


KNOBS = Controls.knobs()
FILTERS = ("temperature", "top_k", "top_p", "min_p")  # those that choosing.sample_next takes


def check(**filters):
    """Raise ValueError for FILTERS that do not fit; None is off."""
    for name, value in filters.items():
        k = KNOBS[name]
        if not (value is None and k.off) and not k.fits(value):
            raise ValueError(f"{name} is {value}; it takes {k.takes.replace('off', 'None to keep every token')}.")
