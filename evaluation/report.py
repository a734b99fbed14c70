"""
What evaluate_xcoax.py has found as one page that needs nothing else: tables, pictures, unedited texts, settings.
"""

import html
import re
from pathlib import Path

from evaluation import figures
from evaluation.comparing import names_of
from evaluation.retrieval import mrr
from evaluation.table import blocks, footnote, order_in_words
from program.streams import visible

_TEMPLATE = Path(__file__).with_name("report.html")
_STRONGEST = 6  # bits of difference at which a word has its full colour


def report(result):
    """The page, a string of HTML."""
    names = names_of(result["models"])
    sections = [_notes(result["notes"]), _cards(map(_table, blocks(result)))]
    if "arrow" in result:
        sections += _arrow(result["arrow"])
    for model, name in zip(result["models"], names) if "arrow" not in result else ():
        prefix = "" if len(names) == 1 else f"{name}: "
        sections += (_base if result["kind"] == "base" else _chat)(model["found"], prefix, result)
    sections.append(_settings(result))
    kind = {"base": "A model that writes texts", "instruct": "A BackChat"}[result["kind"]]
    alike = {}
    for model, name in zip(result["models"], names):
        alike.setdefault(f"{model['parameters']:,} weights, {model['direction']}, {model['trained_tokens'] or 0:,} "
                         "tokens of training", []).append(name)
    subtitle = "; ".join(f"{', '.join(some)}: {what}" for what, some in alike.items())
    page = _TEMPLATE.read_text(encoding="utf-8")
    filled = {"title": escape(f"{', '.join(names[:3])}{' …' * (len(names) > 3)} in numbers"),
              "subtitle": escape(f"{kind}. {subtitle}. {footnote()}"), "body": "\n".join(filter(None, sections))}
    return re.sub(r"\{\{(\w+)\}\}", lambda found: filled[found.group(1)], page)


def escape(text):
    """Text as it may stand in a page: no markup of its own, and no control character unseen."""
    return html.escape(visible(text))


# ---- parts of a page


def _cards(parts):
    found = [f'<section class="card">{part}</section>' for part in parts if part]
    return f'<div class="cards">{"".join(found)}</div>' if found else ""


def _section(title, parts, about=""):
    cards = _cards(parts)
    about = f'<p class="soft">{escape(about)}</p>' if about else ""
    return f"<h2>{escape(title[:1].upper() + title[1:])}</h2>{about}{cards}" if cards else ""


def _figure(title, svg):
    return f"<h3>{escape(title)}</h3>{svg}"


def _cell(cell):
    """A cell of a table; the interval stands below its figure."""
    value, bracket, rest = escape(cell).partition(" [")
    return f"<td>{value}<small>{rest[:-1]}</small></td>" if bracket and rest.endswith("]") else f"<td>{value}</td>"


def _table(block):
    names = (escape(name).replace("-", "\N{NON-BREAKING HYPHEN}") for name in ["", *block.columns])
    head = "".join(f"<th>{name}</th>" for name in names)
    rows = "".join(f"<tr><td>{escape(label)}</td>{''.join(map(_cell, cells))}</tr>" for label, cells in block.rows)
    return (f'<h3>{escape(block.title)}</h3><div class="scroll"><table><thead><tr>{head}</tr></thead>'
            f"<tbody>{rows}</tbody></table></div>")


def _notes(notes):
    return f"<ul>{''.join(f'<li>{escape(note)}</li>' for note in notes)}</ul>" if notes else ""


# ---- base models


def _base(found, prefix, result):
    by_context = [(row["tokens_seen"], row["bits_per_byte"]) for row in found["by_context"]]
    kinds = [(kind, row["bits_per_word"]) for kind, row in found["by_kind"].items()]
    slug = _slug(prefix)
    yield _section(f"{prefix}where the bits are", [
        _figure("Bits per byte, by the tokens seen before", figures.lines(
            f"context{slug}", {"": [by_context]}, "tokens seen before, at least", "bits per byte", doubling=True)),
        _figure("Bits per word, by its kind", figures.bars(f"kinds{slug}", kinds, "bits per word")),
        _figure("Bits per byte, by source", figures.intervals(
            f"sources{slug}", list(found["by_source"].items()), "bits per byte"))
        if len(found["by_source"]) > 1 else "",
        *(_figure(title, figures.bars(f"{name}{slug}", [(word, bits) for word, bits, _ in found[name]], "bits, mean"))
          for title, name in (("The most surprising words", "most_surprising"),
                              ("The least surprising words", "least_surprising")) if found[name])])
    if "texts" in found:
        yield _section(f"{prefix}texts that it writes", [
            f'<p class="text">{escape(text)}</p>' for text in found["texts"]["samples"]],
                       "The first that were drawn, unedited.")


def _slug(prefix):
    return re.sub(r"\W+", "-", prefix)


# ---- BackChat


def _chat(found, prefix, result):
    slug, places = _slug(prefix), found["retrieval"].items()
    yield _section(f"{prefix}choosing", [
        _figure(f"The true instruction among {result['candidates']}", figures.intervals(
            f"mrr{slug}", [(order_in_words(order), row["mrr"]) for order, row in places],
            "mean reciprocal rank; dashed: chance", mrr(range(1, result["candidates"] + 1)))),
        *(_figure(f"{measure} of the one taken", figures.intervals(
            f"taken-{_slug(measure)}{slug}", [(order_in_words(order), row[measure])
                                              for order, row in found["selection"].items()], f"{measure}, 0 to 100"))
          for measure in found["selection"]["first"]),
        *(_figure(f"Bits per byte, by {what}", figures.intervals(
            f"{name}{slug}", [(group, row["bits_per_byte"]) for group, row in found[name].items()], "bits per byte"))
          for what, name in (("length of the response", "by_length"), (result["sources_are"], "by_source"))
          if len(found[name]) > 1)])
    pairs = ["<dl>" + "".join(f"<dt>{what}</dt><dd>{escape(pair[name]) or '–'}</dd>" for what, name in (
        ("response", "response"), ("true instruction", "true"), ("the first written", "first"),
        ("the one taken, by log P per token", "taken"))) + "</dl>" for pair in found["samples"]]
    yield _section(f"{prefix}pairs", pairs, "Spread evenly over what was evaluated, unedited.")
    yield _section(f"{prefix}how instructions begin", [
        _figure(title, figures.bars(f"openings-{name}{slug}", [
            (opening, 100 * share) for opening, share in found["variety"][name]["openings"]], "% of the instructions"))
        for name, title in (("written", "Those that it writes"), ("true", "The true ones"))])


# ---- the arrow of time


def _arrow(arrow):
    def sides(parts):
        return {side: [[(part, row[side]) for part, row in parts.items()]] for side in ("forward", "backward")}

    along = arrow["along_training"]
    curves = {side: [[(tokens / 1e6, row[i]) for tokens, *row in curve] for curve in along]
              for i, side in enumerate(("forward", "backward"))}
    gaps = {f"run {number + 1}": [[(tokens / 1e6, backward - forward) for tokens, forward, backward in curve]]
            for number, curve in enumerate(along)}
    contexts = {int(seen): row for seen, row in arrow["by_context"].items()}
    yield _section("The arrow of time", [
        _figure("Bits per byte, by the tokens seen before", figures.lines(
            "arrow-context", sides(contexts), "tokens seen before, at least", "bits per byte", doubling=True)),
        _figure("Gap, by the tokens seen before", figures.lines(
            "arrow-gaps", {"": [[(seen, row["gap"]) for seen, row in contexts.items() if seen > 1]]},
            "tokens seen before, at least", "backward − forward, bits per byte", doubling=True)),
        _figure("Along training", figures.lines("arrow-along", curves, "million tokens", "bits per byte"))
        if along else "",
        _figure("Gap along training", figures.lines("arrow-along-gap", gaps, "million tokens",
                                                    "backward − forward, bits per byte")) if along else "",
        _figure("Gap, by kind of word", figures.intervals(
            "arrow-kinds", [(kind, {"value": row["gap"], "low": None, "high": None})
                            for kind, row in arrow["by_kind"].items()], "backward − forward, bits per word", 0))])
    yield _section("Word by word", [_coloured(text) for text in arrow["texts"]],
                   "What each word costs backward more than forward, and the other way round, the mean over all runs. "
                   "Touch a word, or rest the pointer on it, for its bits.")


def _coloured(text):
    """A text whose words are coloured by forward minus backward surprisal."""
    def span(unit, forward, backward):
        difference = backward - forward
        share = min(1, abs(difference) / _STRONGEST) * 0.75
        side = "backward" if difference > 0 else "forward"
        return (f'<span tabindex="0" style="background:rgba(var(--{side}),{share:.2f})" title="forward {forward:.1f}, '
                f'backward {backward:.1f} bits">{escape(unit)}</span>')

    key = ('<p class="key soft"><span style="background:rgba(var(--backward),.75)">harder backward</span> '
           '<span style="background:rgba(var(--forward),.75)">harder forward</span></p>')
    return f'{key}<p class="text words">{"".join(span(*word) for word in text)}</p>'


def _settings(result):
    rows = {**result["settings"], **result["machine"]}
    table = "".join(f"<tr><td>{escape(name.replace('_', ' '))}</td><td>{escape(_in_words(value))}</td></tr>"
                    for name, value in rows.items())
    return ('<h2>Settings and machine</h2><section class="card"><details open><summary>All of them</summary>'
            f'<table class="settings"><tbody>{table}</tbody></table></details></section>')


def _in_words(value):
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else "–" if value is None else str(value)
