"""
What a text shows while it grows: only what no further id can change, so that whoever is sent the pieces has the text.

    growth = Growth(tokenizer, prompt, ending)
    growth.more(ids)      # what is put in front of all that was given before; behind it where the model writes forward
    growth.rest(ids)      # the same once there are no more ids
"""

NEAR = 32  # ids before the seam that are decoded with those that follow: a character may be spread over several


class Growth:
    """The new part of one text; prompt is what it began with, the ids of given."""

    def __init__(self, tokenizer, prompt, given):
        self.tokenizer, self.backward, self.shown = tokenizer, tokenizer.direction == "reverse", ""
        text, self.near = tokenizer.to_text(prompt), prompt[-NEAR:]
        self.seam = text[: len(text) - len(given)] if self.backward else ""  # the space that the tokenizer has added
        self.given = tokenizer.to_text(self.near)

    def text(self, ids, read):
        """The new part of what read, a method of the tokenizer, makes of the ids."""
        text = read([*self.near, *ids])
        there = text.endswith(self.given) if self.backward else text.startswith(self.given)
        if not there:
            return self.shown
        return text[: len(text) - len(self.given)] + self.seam if self.backward else text[len(self.given):]

    def more(self, ids):
        """What is settled of the text beyond what was given before; "" where nothing is."""
        return self.beyond(self.text(ids, self.tokenizer.settled_text))

    def rest(self, ids):
        """All of the text beyond what was given before."""
        return self.beyond(self.text(ids, self.tokenizer.to_text))

    def beyond(self, new):
        if new == self.seam and not self.shown:
            return ""  # nothing but the space
        before, self.shown = self.shown, new
        return new[: len(new) - len(before)] if self.backward else new[len(before):]

    def joined(self, given):
        """The whole text, of which so much has been given."""
        return self.shown + given if self.backward else given + self.shown
