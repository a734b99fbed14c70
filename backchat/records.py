"""
Instruction records: where they come from, which of their fields is which, and what the instruction is as one text.

    for where, record in read_records("pairs.jsonl"):    # where says "pairs.jsonl, line 3"
        instruction, input, output = pair(record, where)
        text = full_instruction(instruction, input)
"""

import json
import re

from corpus import open_hub
from readers import expand_paths, numbered_json_lines, read_parquet

HUB = {"open-instruct": {"path": "hakurei/open-instruct-v1", "split": "train", "streaming": True}}
SUFFIXES = (".json", ".jsonl", ".parquet")

INSTRUCTION, INPUT, OUTPUT = ("instruction", "prompt"), ("input", "context"), ("output", "response", "completion")
NEEDED = "instruction and output (or response), prompt and completion, or messages"

_CHUNK = 2**16           # characters of a .json file read at a time
_LARGEST_RECORD = 2**26  # characters after which a record that does not end counts as broken
_SPACE = re.compile(r"[ \t\r\n]*")
_NOT_UTF8 = re.compile("[\udc80-\udcff]")  # what errors="surrogateescape" makes of such bytes


def read_records(dataset, seed=1):
    """Yield (where, record) for every record of a data set: open-instruct on the hub, "tales" (endless), or paths.

    Raises FileNotFoundError, ValueError or OSError, each naming the file and line, or what to run next.
    """
    known = {name: name for name in HUB} | {arguments["path"]: name for name, arguments in HUB.items()}
    if dataset in known:
        arguments = HUB[known[dataset]]
        stream = open_hub(arguments, "take question/answer pairs about a small world, or files of yours:\n"
                                     "    python preprocess_instruct.py --dataset tales\n"
                                     "    python preprocess_instruct.py --dataset 'pairs/*.jsonl' (or .json, .parquet)")
        for number, record in enumerate(stream, 1):
            yield f"{arguments['path']}, record {number:,}", record
    elif dataset == "tales":
        import tales
        for number, record in enumerate(tales.pairs(seed), 1):
            yield f"tales, pair {number:,}", record
    else:
        for path in expand_paths(dataset, SUFFIXES, (*HUB, "tales")):
            yield from read_file(path)


def read_file(path):
    """Yield (where, record) for every record of one file, with all its fields; memory does not grow with the file.

    .jsonl has an object a line, .json an array of objects or objects one after the other, .parquet a record a row. In
    .txt each line that is not blank is a record {"text": line}, for which there is only a response.
    Raises ValueError naming file, line and what was found.
    """
    path = str(path)
    readers = {".json": read_json, ".jsonl": numbered_json_lines, ".txt": _text_lines, ".parquet": lambda path: enumerate(read_parquet(path), 1)}
    suffix = path[path.rfind("."):]
    if suffix not in readers:
        raise ValueError(f"{path} is of no known kind; known are {', '.join(readers)}")
    for number, record in readers[suffix](path):
        yield f"{path}, {'row' if suffix == '.parquet' else 'line'} {number:,}", record


def read_json(path):
    """(line, record) for each object of a .json file: of the array that it holds, or one after the other.

    Reads piece by piece. Raises ValueError naming file and line of what is not JSON, not UTF-8 or not an object.
    """
    decode = json.JSONDecoder().raw_decode
    with open(path, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        text, at, line, wanted, at_end = "", 0, 1, _CHUNK, False
        expected = "start"  # then, in an array, "value", "comma" and in the end "nothing"; else "object"
        while True:
            if not at_end and len(text) - at < wanted:
                new = file.read(wanted)
                text, at, at_end = text[at:] + new, 0, not new
                continue
            after_space = _SPACE.match(text, at).end()
            line, at = line + text.count("\n", at, after_space), after_space
            if at == len(text):
                if not at_end:
                    continue
                if expected in ("value", "comma"):
                    raise ValueError(f"{path}, line {line:,}: not valid JSON (the array that it begins never ends)")
                return
            if expected == "start":
                expected = "value" if text[at] == "[" else "object"
                first = True
                if expected == "value":
                    at += 1
                    continue
            if expected == "comma" or expected == "value" and first:
                if text[at] == "]" or expected == "comma" and text[at] == ",":
                    expected, first, at = "value" if text[at] == "," else "nothing", False, at + 1
                    continue
            if expected in ("comma", "nothing"):
                raise ValueError(f"{path}, line {line:,}: not valid JSON (found {text[at:at + 20]!r} where "
                                 f"{'a comma or ]' if expected == 'comma' else 'the end of the file'} should be)")
            try:
                record, end = decode(text, at)
            except json.JSONDecodeError as error:
                if not at_end and len(text) - at < _LARGEST_RECORD:  # perhaps only cut off: read as much again
                    wanted = 2 * (len(text) - at)
                    continue
                raise ValueError(f"{path}, line {line + text.count(chr(10), at, error.pos):,}: not valid JSON "
                                 f"({error.msg})") from error
            if broken := _NOT_UTF8.search(text, at, end):
                raise ValueError(f"{path}, line {line + text.count(chr(10), at, broken.start()):,}: not UTF-8 "
                                 f"(byte 0x{ord(broken[0]) - 0xdc00:02x})")
            if not isinstance(record, dict):
                raise ValueError(f"{path}, line {line:,}: expected an object with fields, found {text[at:at + 40]!r}")
            yield line, record
            line, at, wanted, first = line + text.count("\n", at, end), end, _CHUNK, False
            expected = "comma" if expected == "value" else "object"


def _text_lines(path):
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
            except UnicodeDecodeError as error:
                raise ValueError(f"{path}, line {number:,}: not UTF-8 (byte 0x{line[error.start]:02x})") from error
            if text.strip():
                yield number, {"text": text}


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
    """(name of the field, text) of a record's response, whether or not it has an instruction: the output of its pair, or its
    `text`.

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
