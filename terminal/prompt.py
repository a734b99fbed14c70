"""
The prompt loop of the samplers.

    Ending: temp=0.5 n=3            a line of commands changes how samples are drawn
    Ending: butterfly in the sky.   any other line is text for the model

On a pipe every line is text: there, commands would be obeyed that stand in somebody's file.
"""

import itertools
import sys
import textwrap

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import Completer, Completion
from prompt_toolkit.key_binding import KeyBindings
from prompt_toolkit.output import create_output
from prompt_toolkit.shortcuts import CompleteStyle

from terminal.commands import commands, read_command, remark
from terminal.history import open_history
from terminal.screen import ERR, note

LINE_BYTES = 2**26  # of a pipe, at most: a longer line would not fit in memory, made into ids


def help_text(label, purpose):
    """What `help` prints; purpose says what becomes of the text given. No row is wider than the screen."""
    wide = ERR.width >= 40  # else a command stands above what it does
    rows = [_wrapped(about, f"  {command:<10} ", " " * 13) if wide else
            f"  {command}\n" + _wrapped(about, " " * 4, " " * 4) for command, about in commands().items()]
    return "\n".join([
        _wrapped(f"{label}{purpose} Several lines pasted at once are one text; Alt-Enter, or Esc and Enter, begins a "
                 "new line. The arrow up brings back what was typed before, Tab completes a command."), "", *rows, "",
        _wrapped("Settings may share a line: temp=0.5 n=3. A slash before a command does no harm: /help. A text that "
                 "looks like a command: put a space before it.")])


def _wrapped(text, first="", indent=""):
    return textwrap.fill(text, ERR.width, initial_indent=first, subsequent_indent=indent, break_long_words=False,
                         break_on_hyphens=False)


def loop(label, written, controls, purpose, history=None):
    """Answer what comes on standard input until its end; return the exit status.

    written.answer(text, controls) prints samples and returns False if Ctrl-C stopped it; for the other commands see
    pasts.py. In a terminal label is the prompt, and `quit` ends it. history names what is typed, so that the next
    session finds it; without a name it is forgotten. On a pipe every line is text.
    """
    if not sys.stdin.isatty():
        return _on_pipe(written, controls)
    session = PromptSession(output=create_output(always_prefer_tty=True), history=open_history(history),
                            key_bindings=_keys(), completer=Commands(), complete_while_typing=False,
                            complete_style=CompleteStyle.READLINE_LIKE, enable_suspend=True)
    return _in_terminal(session, label, written, controls, purpose)


class Commands(Completer):
    """Completes a command at the beginning of a line, with or without a slash."""

    def get_completions(self, document, event):
        typed = document.text_before_cursor.removeprefix("/").lower()
        for command in commands():
            name, _, argument = command.partition(" ")
            if name.startswith(typed):
                yield Completion(f"{name} " if argument else name, -len(typed))


def _keys():
    keys = KeyBindings()
    keys.add("escape", "enter")(lambda event: event.current_buffer.insert_text("\n"))
    return keys


def _in_terminal(session, label, written, controls, purpose):
    """Texts and commands, with editing and history; nothing typed makes the program fail."""
    while True:
        try:
            line = session.prompt(label)
            command = read_command(line, controls)
            if command is None and not line.strip():
                note("There is no text here. Write some words, or help.")
            elif command is None:
                written.answer(line, controls)
            elif command.name == "quit":
                return 0
            elif command.name == "help":
                note(help_text(label, purpose))
            elif command.name == "set":
                controls = command.value
                note("\n".join(filter(None, [str(controls), remark(controls)])))
            else:
                written.obey(command, controls)
        except EOFError:
            return 0
        except (ValueError, OSError) as error:
            note(str(error))
        except KeyboardInterrupt:  # at the prompt it clears the line
            pass


def _on_pipe(written, controls):
    """A line that fails is named on standard error, and the status is 1; a blank one is named and skipped.

    Raises ValueError for a line longer than LINE_BYTES: where it ends is not known, if it does.
    """
    status = answers = 0
    for number in itertools.count(1):
        line = sys.stdin.buffer.readline(LINE_BYTES + 1)
        if not line:
            return status
        if len(line) > LINE_BYTES:
            raise ValueError(f"line {number:,} of standard input is longer than {LINE_BYTES:,} bytes. A line is one "
                             "text; divide this one")
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
            if not text.strip():
                written.failed(f"line {number:,} is blank: skipped")
                continue
            if answers:
                written.separate()
            answers += 1
            if not written.answer(text, controls):
                raise KeyboardInterrupt
        except UnicodeDecodeError as error:
            status = 1
            written.failed(f"line {number:,}: not UTF-8 (byte {error.start + 1:,} is "
                           f"0x{error.object[error.start]:02x})")
        except ValueError as error:
            status = 1
            written.failed(f"line {number:,}: {error}")
