"""
Any Python string as bytes and back: UTF-8, in which half of a surrogate pair survives too.

Such halves are no characters, and strict UTF-8 refuses them; but strings from JSON or from a terminal may hold them,
and what is true of every string must be true of these.
"""


def encode(text):
    """The bytes of text; half of a surrogate pair takes three."""
    return text.encode("utf-8", "surrogatepass")


def decode(data):
    """The text that encode() makes into data; what no text makes becomes U+FFFD."""
    try:
        return data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return data.decode("utf-8", "replace")


def length(text):
    """How many bytes encode(text) has."""
    return len(text) if text.isascii() else len(encode(text))
