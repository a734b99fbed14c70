"""
Data sets on the Hugging Face hub: which ones there are, and a first question that finds out whether there is a hub.
"""

import queue
import threading

from corpus.files import no_column

DOCUMENTS = {  # texts to pre-train on
    "fineweb": {"path": "HuggingFaceFW/fineweb", "name": "sample-100BT", "split": "train"},
    "tinystories": {"path": "roneneldan/TinyStories", "split": "train"},
}
RECORDS = {  # instructions with their responses
    "open-instruct": {"path": "hakurei/open-instruct-v1", "split": "train", "streaming": True},
}
COLUMNS = {
    "fineweb": ("text", "id", "dump", "url", "date", "file_path", "language", "language_score", "token_count"),
    "tinystories": ("text",),
}
TIMEOUT = 10      # seconds for each step of the first question to a hub
PATIENCE = 20     # seconds for its answer in all
BATCH_ROWS = 100  # rows read at a time: FineWeb's long documents must not fill the memory


def find_records(dataset):
    """The arguments of a data set of RECORDS, by its name or its path on the hub; else None."""
    return next((arguments for name, arguments in RECORDS.items() if dataset in (name, arguments["path"])), None)


def hub_arguments(dataset, text_column="text"):
    """The arguments of datasets.load_dataset for a data set on a hub; Parquet, of which one column is fetched.

    Raises ValueError for a column that the data set does not have.
    """
    if text_column not in COLUMNS[dataset]:
        raise no_column(text_column, dataset, COLUMNS[dataset])
    return {**DOCUMENTS[dataset], "streaming": True, "columns": [text_column], "batch_size": BATCH_ROWS}


def _ask_hub(repository):
    """One short question that finds out whether there is a hub at all; raises what the library raises, or TimeoutError.

    In a thread, since a time-out holds for every address that a name has, and for the name's own look-up not at all.
    """
    import huggingface_hub
    answers = queue.SimpleQueue()

    def ask():
        try:
            answers.put(huggingface_hub.HfApi().dataset_info(repository, timeout=TIMEOUT))
        except Exception as error:
            answers.put(error)

    threading.Thread(target=ask, daemon=True).start()
    try:
        answer = answers.get(timeout=PATIENCE)
    except queue.Empty:
        raise TimeoutError(f"no answer in {PATIENCE} seconds") from None
    if isinstance(answer, Exception):
        raise answer


def open_hub(arguments, otherwise):
    """What datasets.load_dataset gives for arguments; raises OSError that says what to do otherwise.

    It asks first, and shortly: the library's own retries would take minutes to say that there is no network.
    """
    try:
        _ask_hub(arguments["path"])
        import datasets
        return datasets.load_dataset(**arguments)
    except Exception as error:  # many kinds (offline mode, no route, no name, time-out, refused, 5xx), one meaning
        raise OSError(
            f"{arguments['path']} cannot be reached ({in_short(error)}). Without the hub, {otherwise}") from error


def in_short(error):
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]}"
