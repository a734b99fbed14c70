"""
Print stories or question/answer pairs of the small world.

    python -m corpus.tales --stories 3 --seed 1
    python -m corpus.tales --pairs 3
"""

import json
import os
import sys
from dataclasses import dataclass

import tyro

from corpus.tales.telling import pair, story
from corpus.text_files import DIVIDER


@dataclass
class TalesSettings:
    """Print stories or question/answer pairs from a small simulated world."""

    stories: int | None = None
    """how many stories to print; one if nothing else is asked for"""
    pairs: int = 0
    """how many question/answer pairs to print, one JSON object a line"""
    seed: int = 1
    """which endless series to take them from; the same seed gives the same texts"""


def main():
    settings = tyro.cli(TalesSettings, description=__doc__)
    wanted = settings.stories if settings.stories is not None else 0 if settings.pairs else 1
    try:
        for index in range(wanted):
            print(story(settings.seed, index), end="\n" + DIVIDER + "\n" if index + 1 < wanted else "\n")
        for index in range(settings.pairs):
            print(json.dumps(pair(settings.seed, index), ensure_ascii=False))
        sys.stdout.flush()
    except BrokenPipeError:  # the reader, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()
