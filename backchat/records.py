"""
Instruction records: where they come from, which of their fields is which, and what the instruction is as one text.

    for where, record in read_records("pairs.jsonl"):    # where says "pairs.jsonl, line 3"
        instruction, input, output = pair(record, where)
        text = full_instruction(instruction, input)
"""

from pathlib import Path

from corpus import hub, tales
from corpus.files import numbered_lines
from corpus.json_files import numbered_json_lines, read_json
from corpus.parquet_files import read_parquet
from corpus.paths import expand_paths
from program import commands
from reverse import segments

SUFFIXES = (".json", ".jsonl", ".parquet")

INSTRUCTION, INPUT, OUTPUT = ("instruction", "prompt"), ("input", "context"), ("output", "response", "completion")
NEEDED = "instruction and output (or response), prompt and completion, or messages"


def refuse(error):
    raise error


def read_records(dataset, seed=1, on_bad=refuse):
    """Yield (where, record) for every record of a data set: open-instruct on the hub, "tales" (endless), or paths.

    on_bad is given the ValueError of a record that is bad by itself, and may let it pass. Raises FileNotFoundError,
    ValueError or OSError, each naming the file and line, or what to run next.
    """
    if arguments := hub.find_records(dataset):
        make = commands.preprocess("instruct", dataset="pairs/*.jsonl")
        stream = hub.open_hub(arguments, "take question/answer pairs about a small world, or files of yours:\n"
                              f"    {commands.preprocess('instruct', dataset='tales')}\n"
                              f"    {make} (or .json, .parquet)")
        for number, record in enumerate(stream, 1):
            yield f"{arguments['path']}, record {number:,}", record
    elif dataset == "tales":
        for number, record in enumerate(tales.pairs(seed), 1):
            yield f"tales, pair {number:,}", record
    else:
        for path in files_of(dataset):
            yield from read_file(path, on_bad)


def files_of(dataset):
    """The files that dataset names, as corpus.paths.expand_paths finds them."""
    return expand_paths(dataset, SUFFIXES, (*hub.RECORDS, "tales"))


def read_file(path, on_bad=refuse):
    """Yield (where, record) for every record of one file, with all its fields; memory does not grow with the file.

    .jsonl has an object a line, .json an array of objects or objects one after the other, .parquet a record a row. In
    .txt each line that is not blank is a record {"text": line}, for which there is only a response.
    on_bad is given the ValueError of a record that is bad by itself. Raises ValueError naming file, line and what was
    found.
    """
    suffix = Path(path).suffix
    if suffix not in _READERS:
        raise ValueError(f"{path} is of no known kind; known are {', '.join(_READERS)}")
    place, read = _READERS[suffix]
    for number, record in read(str(path)):
        if isinstance(record, ValueError):
            on_bad(record)
        else:
            yield f"{path}, {place} {number:,}", record


def _text_lines(path):
    for number, line in numbered_lines(path):
        if isinstance(line, ValueError):
            yield number, line
        elif line.strip():
            yield number, {"text": line}


def blank_lines(path):
    """How many lines of a .txt file are no records, because they are blank; of other files, 0."""
    if Path(path).suffix != ".txt":
        return 0
    return sum(isinstance(line, str) and not line.strip() for _, line in numbered_lines(path))


_READERS = {
    ".json": ("line", read_json),
    ".jsonl": ("line", numbered_json_lines),
    ".txt": ("line", _text_lines),
    ".parquet": ("row", read_parquet),
}


def _field(record, names):
    """The first of names that record has and fills, else the first that it has, else None."""
    there = [name for name in names if name in record]
    return next((name for name in there if record[name] is not None), there[0] if there else None)


def shape_of(record):
    """The names of the fields that pair() reads, such as "instruction, input, output"; None where some are missing.

    >>> shape_of({"context": "", "instruction": "Say hello.", "response": "Hello.", "category": "chat"})
    'instruction, context, response'
    """
    instruction, given, output = (_field(record, names) for names in (INSTRUCTION, INPUT, OUTPUT))
    if instruction and output:
        return ", ".join(name for name in (instruction, given, output) if name)
    return "messages" if "messages" in record else None


def pair(record, where="a record"):
    """(instruction, input, output) of a record in any of the known shapes, as they stand; a missing text is empty.

    Of a conversation it takes the first user turn and the first assistant turn after it. Later turns lean on earlier
    ones and make no instruction by themselves; a system turn is no part of the exchange.
    Raises ValueError naming where the record stands and the fields that it has.
    """
    shape = shape_of(record)
    if shape is None:
        found = ", ".join(map(str, record)) or "no fields"
        raise ValueError(f"{where}: expected {NEEDED}; found {found}")
    if shape == "messages":
        return _exchange(record["messages"], where)
    names = (_field(record, names) for names in (INSTRUCTION, INPUT, OUTPUT))
    return tuple(_text(record[name], name, where) if name else "" for name in names)


def response(record, where="a record"):
    """(name of the field, text) of a record's response, whether or not it has an instruction: the output of its pair,
    or its `text`.

    Raises ValueError naming where the record stands and the fields that it has.
    """
    name = _field(record, (*OUTPUT, "text"))
    if name:
        return name, _text(record[name], name, where)
    if "messages" in record:
        return "messages", _exchange(record["messages"], where)[2]
    raise ValueError(f"{where}: expected a field output, response, completion, text or messages; found "
                     f"{', '.join(map(str, record)) or 'no fields'}")


def full_instruction(instruction, input):
    """The instruction as one text: its input, where there is one, follows after one newline."""
    return f"{instruction}\n{input}" if input.strip() else instruction


def normalised(text):
    """The words of a text in lower case, one space between them; of a text without words, the text.

    >>> normalised("The cat,\nASLEEP.")
    'the cat asleep'
    """
    return " ".join(word for word in segments(text.casefold()) if any(map(str.isalnum, word))) or text.strip()


def _text(value, name, where):
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ValueError(f"{where}: field {name!r} holds {type(value).__name__}, not text")
    return value


def _exchange(messages, where):
    if messages is None:
        return "", "", ""
    if not isinstance(messages, list) or not all(isinstance(turn, dict) for turn in messages):
        raise ValueError(f"{where}: 'messages' should be a list of turns, each with role and content")
    asked = answer = None
    for turn in messages:
        if asked is None and turn.get("role") == "user":
            asked = turn
        elif asked is not None and turn.get("role") == "assistant":
            answer = turn
            break
    if answer is None:
        roles = ", ".join(str(turn.get("role")) for turn in messages) or "no turns"
        raise ValueError(f"{where}: 'messages' has no user turn with an assistant turn after it; found {roles}")
    return (_text(asked.get("content"), "content", where), "", _text(answer.get("content"), "content", where))
