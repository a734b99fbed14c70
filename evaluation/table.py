"""
The figures as blocks, a block a small table: what is printed, and what stands in the report.
"""

from typing import NamedTuple

from evaluation.bootstrap import LEVEL
from evaluation.comparing import names_of
from evaluation.copies import COPIED
from evaluation.overlap import KINDS
from evaluation.retrieval import ORDERS, mrr
from evaluation.texts import MOST_FREQUENT, REPEATED

_WIDEST_LABEL, _GAP = 40, 2
_SIDE_BY_SIDE = 3  # columns for which there is room in any case


class Block(NamedTuple):
    """A title, names of columns, and rows (label, a cell for each column)."""

    title: str
    columns: list
    rows: list

    def upright(self):
        """This table, or one with rows for columns where it is wide: many models beside few figures."""
        if len(self.columns) <= max(_SIDE_BY_SIDE, len(self.rows)):
            return self
        cells = zip(*(cells for _, cells in self.rows))
        return Block(self.title, [label for label, _ in self.rows], list(zip(self.columns, map(list, cells))))


def number(value, form=".3f"):
    """A figure, or one with its interval, as it is shown; a dash where there is none.

    >>> number({"value": 0.5, "low": 0.25, "high": 0.75}), number(0.123, ".1%"), number(None)
    ('0.500 [0.250, 0.750]', '12.3%', '–')
    """
    if isinstance(value, dict):
        low, high = value["low"], value["high"]
        return number(value["value"], form) + (f" [{low:{form}}, {high:{form}}]" if low is not None else "")
    return "–" if value is None else f"{value:{form}}"


def blocks(result):
    """All Blocks of what evaluate_xcoax.py has found."""
    models, names = [model["found"] for model in result["models"]], names_of(result["models"])
    found = _of_bases(result, models, names) if result["kind"] == "base" else _of_chats(result, models, names)
    return [block.upright() for block in (*found, *(_of_arrow(result["arrow"]) if "arrow" in result else ()))]


def _alike(models):
    """Whether nats per token of these models may be compared."""
    return len({(model["tokenizer"], model["data"]) for model in models}) == 1


def _of_bases(result, models, names):
    first = models[0]
    yield Block(f"Held-out text: {first['documents']:,} documents, {first['bytes']:,} bytes", names, [
        ("bits per byte", [number(model["bits_per_byte"], ".4f") for model in models]),
        *([("nats per token", [number(model["nats_per_token"], ".4f") for model in models])]
          if _alike(result["models"]) else []),
        ("tokens", [f"{model['tokens']:,}" for model in models]),
        *((f"bits per byte, {source}", [number(model["by_source"][source], ".4f") for model in models])
          for source in first["by_source"])])
    if "texts" in first:
        texts = [*(model["texts"]["written"] for model in models), first["texts"]["held_out"]]
        yield Block(f"{texts[0]['texts']:,} texts that it writes, beside held-out ones", [*names, "held-out"], [
            (label, [number(text.get(name), form) for text in texts]) for label, name, form in (
                *((f"distinct-{n}, equally many words", f"distinct_{n}", ".3f") for n in (1, 2, 3)),
                (f"repeated runs of {REPEATED} words", "repetition", ".1%"), ("words", "words", ".0f"),
                ("reach their beginning" if result["models"][0]["direction"] == "reverse" else "reach their end",
                 "finished", ".1%"),
                (f"begin with one of {MOST_FREQUENT} openings", "frequent_openings", ".1%"),
                (f"runs of {COPIED} tokens in training", "copied", ".1%"))])


def _of_chats(result, models, names):
    overlap = result.get("overlap")
    yield Block(f"True instructions: {models[0]['pairs']:,} held-out pairs", names, [
        ("bits per byte", [number(model["bits_per_byte"]) for model in models]),
        *([("nats per token", [number(model["nats_per_token"]) for model in models])]
          if _alike(result["models"]) else []),
        ("bits per byte, response unknown", [number(model["bits_per_byte_without_response"]) for model in models])])
    chance = mrr(range(1, result["candidates"] + 1))
    for model, name in zip(models, names):
        yield Block(f"{name}: the true instruction among {result['candidates']} (chance: MRR {chance:.3f})",
                    ["MRR", "first", "in five"],
                    [(order_in_words(order), [number(row["mrr"]), number(row["first"]["value"], ".1%"),
                                               number(row["in_five"]["value"], ".1%")])
                     for order, row in model["retrieval"].items()])
    best_of = result["settings"]["best_of"]
    for model, name in zip(models, names):
        measures = list(model["selection"]["first"])
        yield Block(f"{name}: likeness of the one taken of {best_of}, 0 to 100", measures, [
            (order_in_words(order), [number(row[measure], ".1f") for measure in measures])
            for order, row in model["selection"].items()])
    texts = [*(model["variety"]["written"] for model in models), models[0]["variety"]["true"]]
    yield Block("Instructions that it writes, beside the true ones", [*names, "true"], [
        (label, [number(text.get(key), form) for text in texts]) for label, key, form in (
            *((f"distinct-{n}, equally many words", f"distinct_{n}", ".3f") for n in (1, 2, 3)),
            ("words", "words", ".1f"), ("equal an earlier one", "equal_texts", ".1%"),
            (f"begin with one of {MOST_FREQUENT} openings", "frequent_openings", ".1%"),
            ("stand in training", "copied", ".1%"))])
    for model, name in zip(models, names):
        yield from _of_chat(model, name, result["sources_are"])
    if overlap:
        yield Block(f"Overlap with the training data, of {overlap['of']:,} pairs", ["pairs"], [
            (what, [f"{overlap[kind]:,}"]) for kind, what in {**KINDS, "any": "any of these"}.items()])


def _of_chat(model, name, of_source):
    for title, groups in ((of_source, model["by_source"]), ("length of the response", model["by_length"])):
        if len(groups) > 1:
            measures = [measure for measure in next(iter(groups.values())) if measure not in ("pairs", "bits_per_byte",
                                                                                               "mrr")]
            yield Block(f"{name}: by {title}", ["pairs", "bits per byte", "MRR by PMI", *measures], [
                (group, [f"{row['pairs']:,}", number(row["bits_per_byte"]["value"]), number(row["mrr"]["value"]),
                         *(number(row[measure]["value"], ".1f") for measure in measures)])
                for group, row in groups.items()])
    if trip := model.get("round_trip"):
        yield Block(f"{name}: what the judge finds, {trip['pairs']:,} pairs", ["bits per token of the response"], [
            (f"after the {which} instruction", [number(trip[which])]) for which in ("written", "true", "random")] + [
            (f"written better than {which}", [number(trip[f"better_than_{which}"], ".1%")])
            for which in ("true", "random")])


def _of_arrow(arrow):
    yield Block(f"The arrow of time: {arrow['seeds']} seeds, {arrow['documents']:,} documents", ["bits per byte"], [
        ("forward", [number(arrow["forward"], ".4f")]), ("backward", [number(arrow["backward"], ".4f")]),
        ("gap, over documents", [number(arrow["gap"], "+.4f")]),
        ("gap, over seeds", [number(arrow["gap_over_seeds"], "+.4f")]),
        ("gap of each seed", [", ".join(f"{gap:+.4f}" for gap in arrow["gap_by_seed"])]),
        ("gap as a share of the forward bits", [number(arrow["relative"], "+.2%")]),
        ("tokens, forward", [f"{arrow['tokens']['forward']:,}"]),
        ("tokens, backward", [f"{arrow['tokens']['backward']:,}"]),
        ("more tokens, per mille", [f"{arrow['tokens']['per_mille']:+.2f}"])])


def order_in_words(order):
    """What an order of retrieval or selection is called."""
    name, _, shuffled = order.partition(", ")
    words = {**ORDERS, "bm25": "BM25", "forward": "log P(response | instruction)", "first": "the first written"}
    return words[name] + ", control" * bool(shuffled)


def table(result):
    """All blocks as lines of text."""
    return "\n\n".join(map(_lines, blocks(result)))


def _lines(block):
    wide = max(min(_WIDEST_LABEL, max(len(label) for label, _ in block.rows)), 24)
    widths = [max(len(name), *(len(cells[i]) for _, cells in block.rows)) for i, name in enumerate(block.columns)]
    rows = [("", block.columns), *block.rows]
    return "\n".join([block.title, *(f"  {label:<{wide}}" + "".join(
        f"{cell:>{width + _GAP}}" for cell, width in zip(cells, widths)) for label, cells in rows)])


def footnote():
    """What the intervals are."""
    return f"In brackets: {LEVEL:.0%} intervals of the bootstrap over documents or pairs."
