"""Every character that there is, and the patterns of the two character classes."""

import re
import sys

from characters import classes

EVERY_CHARACTER = "".join(map(chr, range(sys.maxunicode + 1)))
CLASSES = {name: re.compile(f"[{getattr(classes, name)}{getattr(classes, name + '_BEYOND')}]")
           for name in ("WORD", "GLYPH")}
