"""Small texts in many languages and scripts, awkward strings, and the hypothesis strategies that the tests share."""

import random
import re

from hypothesis import settings
from hypothesis import strategies as st

from corpus.languages import LANGUAGES

# Stable everywhere: the same examples at every run, on every machine.
laws = settings(max_examples=1_000, deadline=None, derandomize=True, database=None)
fewer = settings(laws, max_examples=300)  # for what other laws already cover in part
few = settings(laws, max_examples=150)    # for what reads files

AWKWARD = {
    "emoji": (
        "A family 👨‍👩‍👧‍👦 waves 👋🏽, 👍🏿👍; flags 🇩🇪🇫🇷 🏴󠁧󠁢󠁳󠁣󠁴󠁿 and 🏳️‍🌈, "
        "keycaps 1️⃣ #️⃣ *️⃣, ❤️‍🔥 love️, ☕︎ tea, © ® ™️ 〰️ ㊗️."
    ),
    "code": (
        "def area(r):\n    # pi * r^2\n    if r < 0:\n\t\treturn None\n"
        "    return 3.14159 * r ** 2  # ok?\n\n\nprint(f\"{area(2):.2f}\")\n"
    ),
    "table": "name\tage\tcity\nAda\t36\tLondon\nLin  Wei\t\t北京\n\t\t\n",
    "crlf": "Dear Sir,\r\n\r\nthe goods arrived on 03-04-2021.\r\nYours, J. O'Neill\r",
    "links": (
        "See https://www.example.com/a-b_c/?q=1&r=%20x#top, "
        "write to a.b-c@mail.example.org, or open C:\\Temp\\x.txt."
    ),
    "numbers": "3.14 1,000,000.00 -5 +7 1e-9 10% $4.50 €3 1/2 ½ x² H₂O 12:30 2021-05-06 192.168.0.1 v1.2.3 Ⅻ ٣٫١٤",
    "contractions": (
        "don't can't won't it's I'd they've o'clock rock'n'roll 'twas 'Tis dogs' "
        "l’homme aujourd’hui ain’t-it -a- 'b' .c. d..e f--g"
    ),
    "spaces": (
        "   three before,  two between,          ten, and after   \n  \n    \n"
        " a  \t b\u00a0c\u2003d\u3000e\u200bf\u2028g\u2029h\x85i "
    ),
    "controls": "bell\a back\b vt\v ff\f esc\x1b us\x1f fs\x1c del\x7f bom\ufeff rlo\u202e pdf\u202c soft\u00adhyphen",
    "space mark": "▁ begins, a▁b inside, ▁▁ two, end▁",
    "nul": "before\0after \0 and \0\0two",
    "lone surrogates": "high \ud83d low \udc00 swapped \udc00\ud83d word\ud800word",
    "markers": (
        "a<|im_end|>b <|im_start|><|response|> <|endoftext|> </s> <s> <unk> <0x0A> "
        "<|im_end |> <|assistant|>\n<|user|>"
    ),
    "marks": (
        "e\u0301 \u0301 .\u0301 '\u0301' Z\u0351\u032b\u0343\u036a\u0302"
        "a\u0334\u0323l\u0322\u0348g\u030ao! \u20e3 \ufe0f\ufe0f a\ufe0f \u093f"
    ),
    "astral": "𝔊𝔬𝔱𝔥𝔦𝔠 𐌲𐌿𐍄 𐤀𐤁 𠀀𠮷野家 𝟘𝟙 𓀀𓂀 𞤀𞤁 🀄🂡 \U0010ffff \U000e0041",
    "long word": "Donaudampfschifffahrtsgesellschaftskapitän" * 3 + " " + "0123456789" * 20 + " " + "ab-" * 40,
    "empty": "",
}

TEXTS = LANGUAGES | AWKWARD

MARKER_PIECES = ["<|im_end|>", "<|im_start|>", "<|instruction|>", "<|response|>", "<|endoftext|>", "<|system|>",
                 "<|user|>", "<|assistant|>", "<|", "|>", "im_end", "<s>", "</s>", "<unk>", "<pad>", "<0x00>", "<0xE2>"]

# What decides where a text is cut, and what a tokenizer may trip over.
_SMALL = [*". , ' ’ - _ \" « 。 ( < | \\ /".split(),
          "\u200d", "\u200c", "\u200b", "\u2060", "\ufe0f", "\ufe0e", "\u20e3", "\u0301",
          "\u093f", "\u0651", "\u3099", "\u0e33", "\u00ad", "\0", "\u2581", "\x1f", "\x1e", "\x7f", "\x85", "\u2028",
          "\u00a0", "\u3000", "\ufeff", "\ufffd", "\uffff", "\ud800", "\udbff", "\udc00", "\udfff", "\n", "\n\n",
          "\r\n", "\r", "\t", *"a Z z ß é İ ж م א क 中 々 か ー カ ｶ 각 ก 0 7 ٣ ② ½ ² Ⅻ ª".split(),
          "👨", "🏽", "🇩", "☕", "©", "〰", "㊗", "🏴", "\U000e0067", "\U000e007f", "𝔊", "𠀀", "𐌲", "𝟘",
          "\U0010ffff", "\U000e0100"]
_SPACES = [" ", " ", " ", "  ", "   ", " " * 7, " " * 40, " " * 130]


def _words_and_slices():
    """Words, runs of space and slices of any length of all the texts above, and characters from all over Unicode."""
    rng, whole = random.Random(0), "\n".join(TEXTS.values())
    starts = [rng.randrange(len(whole)) for _ in range(400)]
    return (re.findall(r"\S+|\s+", whole) + [whole[start:start + rng.randint(2, 24)] for start in starts]
            + [chr(rng.randrange(rng.choice((0x3000, 0x10000, 0x110000)))) for _ in range(300)])


# What the rules of reverse.py are about, one beside the other in every order.
_EDGES = "a1_é中.,'’- \n(\u200c\u200d\ufe0f\u20e3\u0301👨🏽🇩☕ก"


def _edge_cases():
    rng = random.Random(1)
    return ["".join(rng.choices(_EDGES, k=rng.randint(2, 8))) for _ in range(1000)]


_small, _large = st.sampled_from(_SMALL + _SPACES), st.sampled_from(_words_and_slices())
_atoms = st.one_of(_small, _large, st.sampled_from(_edge_cases()), st.sampled_from(MARKER_PIECES),
                   st.integers(0, 0x10FFFF).map(chr))

any_text = st.lists(_atoms, max_size=12).map("".join)
"""Any Python string, lone surrogates and NUL included, rich in what is cut or encoded in a special way."""

basic_text = any_text.map(lambda text: re.sub("[\U00010000-\U0010ffff]", "", text))
"""The same within the basic plane."""

marker_text = st.lists(st.sampled_from(MARKER_PIECES) | _small, max_size=12).map("".join)
"""Any string with texts of markers and of SentencePiece's own symbols spliced in."""
