"""
A small world that writes stories and question/answer pairs: the corpus that every clone carries with it.

    from corpus.tales import pairs, stories, story
    story(seed=1, index=99_999)     # any story, without writing those before it

The texts are in plots/: world.txt lists who and what there is, questions.txt the questions, every other file holds
plots. plots/README.md explains the notation in a page.
"""

from corpus.tales.telling import pair, pairs, stories, story, tale

__all__ = ["pair", "pairs", "stories", "story", "tale"]
