"""
Reverse the words of a text, exactly as they are reversed for training: those of the arguments, or of standard input.

    python wtac.py 'butterfly in the sky.'
    ./run model.bin -z tokenizer.bin -i "$(python wtac.py 'butterfly in the sky.')" | python wtac.py --whole

The arguments are an ending: where running text has a space before it, it gets one, which reversed is its last
character. Standard input is reversed line by line as the lines come, so that what a program writes backwards can be
read while it is written, its last paragraph first; with --whole all of it is reversed at its end, paragraphs too.
Reversed twice, it is as it was. It needs neither PyTorch nor SentencePiece.
"""

import argparse
import codecs
import os
import re
import signal
import sys

from characters.seams import space_before
from reverse import reverse, segments

PIECE = 2**20  # characters of one line that are held in memory; more of them wait in a file
_OPEN = 3      # so many segments at the end of a piece may change with what follows: 3 . becomes 3.14
# Bytes that are no UTF-8, as Python keeps them. Neighbours stay in their order: in another they could be a character.
_BYTES = re.compile("[\udc80-\udcff]+")


def parser():
    found = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    found.add_argument("words", nargs="*", metavar="WORD", help="an ending; without one, standard input is read")
    found.add_argument("--whole", action="store_true",
                       help="reverse the order of the lines, too: nothing is written before the input has ended")
    found.add_argument("--bytes", action="store_true", help="keep what is no UTF-8; else it becomes U+FFFD")
    return found


def main():
    settings = parser().parse_args()
    if hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `| head` ends it quietly
    if settings.words:
        ending = " ".join(settings.words)
        parts = [reversed_text(" " * space_before(ending) + ending), "\n"]
    else:
        parts = lines(sys.stdin.fileno(), "surrogateescape" if settings.bytes else "replace", settings.whole)
    try:
        for part in parts:
            sys.stdout.buffer.write(part.encode("utf-8", "surrogateescape"))
            sys.stdout.buffer.flush()
    except KeyboardInterrupt:
        sys.exit(130)


def reversed_text(text):
    """reverse(text), but for bytes that are no UTF-8."""
    return _BYTES.sub(lambda found: found[0][::-1], reverse(text))


def lines(source, errors="replace", whole=False):
    """The reversed lines of a file descriptor in parts, each line as soon as it is there; or the whole as one, reversed
    but for the newline at its end."""
    decoder, line, end = codecs.getincrementaldecoder("utf-8")(errors), Line(), ""
    while True:
        data = os.read(source, 2**16)
        text = decoder.decode(data, final=not data)
        if whole:
            text, end = end + text, ""
            if text.endswith("\n"):
                text, end = text[:-1], "\n"
        *complete, rest = [text] if whole else text.split("\n")
        for text in complete:
            line.add(text)
            yield from line.reversed()
            yield "\n"
        line.add(rest)
        if not data:
            yield from line.reversed()
            yield end
            return


class Line:
    """One line, which may be longer than memory."""

    def __init__(self):
        self.held, self.most = "", PIECE
        self.aside, self.sizes = None, []  # a file of reversed pieces, and their sizes in it

    def add(self, text):
        """The next part of the line."""
        self.held += text
        if len(self.held) > self.most:
            found = segments(self.held)
            cut = max(0, len(found) - _OPEN)
            while cut and _BYTES.fullmatch(found[cut]) and _BYTES.fullmatch(found[cut - 1]):
                cut -= 1
            self.put_aside(reversed_text("".join(found[:cut])))
            self.held = "".join(found[cut:])
            self.most = max(PIECE, 2 * len(self.held))  # a single word may be as long

    def put_aside(self, text):
        import tempfile  # seldom needed, and slow to load

        self.aside = self.aside or tempfile.TemporaryFile()
        self.sizes.append(self.aside.write(text.encode("utf-8", "surrogateescape")))

    def reversed(self):
        """The whole line in parts, the last words first; afterwards the next line may follow."""
        yield reversed_text(self.held)
        position = sum(self.sizes)
        for size in reversed(self.sizes):
            position -= size
            self.aside.seek(position)
            yield self.aside.read(size).decode("utf-8", "surrogateescape")
        self.__init__()


if __name__ == "__main__":
    main()
