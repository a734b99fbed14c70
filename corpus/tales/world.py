"""
The small world: tables of people and things in plots/world.txt. A fact is a dict of str; its "name" is what {fact}
shows.
"""

from functools import cache
from pathlib import Path

PLOTS = Path(__file__).parent / "plots"
PRONOUNS = {
    "he": dict(he="he", him="him", his="his", himself="himself", boy="boy", man="man", son="son"),
    "she": dict(he="she", him="her", his="her", himself="herself", boy="girl", man="woman", son="daughter"),
}
ONES = """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen
          seventeen eighteen nineteen""".split()
TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()


@cache
def number(n):
    """Return the fact of a number below a hundred: its name in letters, its digits."""
    if n < 20:
        name = ONES[n]
    else:
        name = TENS[n // 10 - 2] + ("-" + ONES[n % 10] if n % 10 else "")
    return {"name": name, "digits": str(n)}


def sections(path):
    """Yield the title and the lines of every section that begins with '== title'; lines with # are remarks."""
    lines = [line.rstrip() for line in path.read_text("utf-8").splitlines() if not line.startswith("#")]
    starts = [i for i, line in enumerate(lines) if line.startswith("== ")]
    for start, stop in zip(starts, starts[1:] + [len(lines)]):
        yield lines[start][3:], lines[start + 1 : stop]


@cache
def world():
    """Return the rows of every table in world.txt; 'Ann, Bea; she' is two rows."""
    tables = {}
    for title, lines in sections(PLOTS / "world.txt"):
        kind, _, columns = title.partition(": ")
        rows = tables[kind] = []
        for cells in [line.split("; ") for line in lines if line]:
            for name in cells[0].split(", "):
                row = dict(zip(["name", *columns.split("; ")], [name, *cells[1:]], strict=bool(columns)))
                rows.append(row | PRONOUNS.get(row.get("he"), {}))
    return tables
