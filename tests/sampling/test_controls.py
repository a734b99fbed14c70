"""Every knob of sampling is written down once: what flags, the prompt, its help and generate() say of it agrees."""

import io
import math
from contextlib import redirect_stdout

import pytest
from hypothesis import given
from hypothesis import strategies as st

import sample_xcoax
import sample_xcoax_instruct
from program.settings import parse
from sampling.controls import FILTERS, KNOBS, Controls, check
from terminal.commands import read_command
from terminal.prompt import help_text
from tests.support.texts import fewer

SAMPLERS = {"base": sample_xcoax.SampleSettings, "instruct": sample_xcoax_instruct.InstructSettings}
every_knob = pytest.mark.parametrize("name", KNOBS)
every_sampler = pytest.mark.parametrize("settings_class", SAMPLERS.values(), ids=SAMPLERS)


def fits(make, *arguments, **options):
    """Whether make takes these arguments."""
    try:
        make(*arguments, **options)
    except ValueError:
        return False
    return True


def flag(name):
    return f"--{name.replace('_', '-')}"


@every_sampler
@every_knob
def test_every_knob_is_a_flag_of_both_samplers(name, settings_class):
    value = "0.5" if KNOBS[name].kind is float else "3"
    controls = parse(settings_class, "", [flag(name), value]).controls
    assert vars(controls) == vars(settings_class().controls) | {name: KNOBS[name].kind(value)}


@every_knob
def test_every_knob_is_a_command_of_the_prompt_under_its_own_name_and_that_of_its_flag(name):
    value = "0.5" if KNOBS[name].kind is float else "3"
    expected = vars(Controls()) | {name: KNOBS[name].kind(value)}
    for spelling in (KNOBS[name].command, name, name.replace("_", "-")):
        assert vars(read_command(f"{spelling}={value}", Controls()).value) == expected


@every_knob
def test_every_knob_has_a_row_of_help_with_what_it_takes_and_what_it_does(name):
    table = " ".join(help_text("Ending: ", "").split())
    assert f" {KNOBS[name].command}= {KNOBS[name].takes}. {Controls.help_of(name)} " in table


@every_sampler
@every_knob
def test_the_help_of_a_flag_is_that_of_the_prompt(name, settings_class):
    printed = io.StringIO()
    with redirect_stdout(printed), pytest.raises(SystemExit):
        parse(settings_class, "", ["--help"])
    assert f" {flag(name)} " in printed.getvalue()
    assert Controls.help_of(name) in " ".join(printed.getvalue().replace("│", " ").split())


@fewer
@given(st.sampled_from(FILTERS), st.floats() | st.sampled_from([-1e-9, 0.0, 1e-9, 1 - 1e-9, 1.0, 1 + 1e-9, math.inf]))
def test_the_prompt_and_generate_take_the_same_numbers(name, value):
    if KNOBS[name].kind is int:
        value = int(value) if math.isfinite(value) else 0
    expected = name == "top_k" and value == 0 or fits(check, **{name: value})  # at the prompt top_k=0 is off
    assert fits(Controls, **{name: value}) == expected
    assert fits(read_command, f"{name}={value}", Controls()) == expected


@pytest.mark.parametrize("name, takes, leaves", [
    ("temperature", (0, 1e-9, 1, 99), (-1e-9, math.inf, math.nan)), ("top_k", (1, 10**9), (0, -1)),
    ("top_p", (1e-9, 0.5, 1), (0, 1 + 1e-9, -1, math.nan)), ("min_p", (0, 0.5, 1 - 1e-9), (1, -1e-9, math.nan))])
def test_each_filter_has_its_range(name, takes, leaves):
    assert [fits(check, **{name: value}) for value in takes] == [True] * len(takes)
    assert [fits(check, **{name: value}) for value in leaves] == [False] * len(leaves)


def test_a_number_that_is_not_whole_is_refused_where_a_whole_one_is_taken_and_not_cut():
    for name in ("seed", "tokens", "num_samples", "top_k"):
        assert not fits(Controls, **{name: 1.5}) and not fits(Controls, **{name: math.inf})
        assert fits(Controls, **{name: 2.0})


@pytest.mark.parametrize("name", FILTERS)
def test_what_does_not_fit_is_answered_with_the_value_and_what_is_taken(name):
    with pytest.raises(ValueError, match=f"^{name} is -3; it takes a (whole )?number.*(0|1|None to keep every token)"):
        check(**{name: -3})
    with pytest.raises(ValueError, match=f"^{KNOBS[name].command}=-3 does not fit: {KNOBS[name].command}= takes "):
        Controls(**{name: -3})


@every_knob
def test_a_knob_that_can_be_off_is_switched_off_by_that_word_and_no_other_is(name):
    if KNOBS[name].off:
        assert getattr(Controls(**{name: "off"}), name) is getattr(Controls(**{name: None}), name) is None
        assert KNOBS[name].takes.endswith(", or off")
    else:
        assert not fits(Controls, **{name: "off"}) and not fits(Controls, **{name: None})


def test_the_filters_are_what_generate_is_given():
    assert Controls(temperature=2, top_k=0, top_p=0.5).filters() == {
        "temperature": 2.0, "top_k": None, "top_p": 0.5, "min_p": None}
