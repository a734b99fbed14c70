"""The server as a person starts it, and what it refuses."""

import json
import re
import signal
import socket
import urllib.request

import pytest

import checkpoint
import serve_xcoax
from tests.support.endless import TOKENIZERS, endless_model, save_endless
from tests.support.terminal import ENV, complaint, start_on_pipes

SCRIPT = "serve_xcoax.py"


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    folder = tmp_path_factory.mktemp("out")
    instruct = folder / "instruct.pt"
    checkpoint.save(instruct, endless_model(TOKENIZERS["reverse"]), TOKENIZERS["reverse"], {}, {}, kind="instruct")
    return {**save_endless(folder), "instruct": instruct}


@pytest.fixture(scope="module")
def started(checkpoints):
    """The script, with a forward model and a chat: (process, its address)."""
    process = start_on_pipes(SCRIPT, "--model-path", checkpoints["forward"], "--instruct-path", checkpoints["instruct"],
                             "--port", 0, "--tokens", 20, env=ENV)
    try:
        found = None
        while not found:
            line = process.stdout.readline()
            assert line, process.stderr.read()
            found = re.search(rb"(http://127\.0\.0\.1:\d+)/ shows the page", line)
        yield process, found[1].decode()
    finally:
        process.kill()


def get(url, body=None):
    with urllib.request.urlopen(url, body and json.dumps(body).encode(), timeout=30) as answer:
        return answer.read().decode()


def test_it_says_where_the_page_is_and_serves_it_and_the_texts(started):
    _, url = started
    assert "<!doctype html>" in get(url + "/") and json.loads(get(url + "/about"))["chat"] is True
    answer = json.loads(get(url + "/v1/completions", {"prompt": "One day", "echo": True}))
    assert answer["choices"][0]["text"].startswith("One day") and answer["direction"] == "forward"
    assert "event: end" in get(url + "/write", {"ending": "One day"})


def test_a_port_in_use_is_named_with_the_next_command(started, checkpoints):
    port = started[1].rpartition(":")[2]
    said = complaint(serve_xcoax, "--model-path", checkpoints["reverse"], "--port", port)
    assert f"Port {port} is in use" in said and f"python serve_xcoax.py --port {int(port) + 1}" in said


def test_ctrl_c_ends_it_at_once_though_a_reader_is_there(started):
    process, url = started
    with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2]))) as opened:
        opened.sendall(b"GET /he")
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 130
    assert process.stderr.read() == b""


@pytest.mark.parametrize("args, words", [
    (["--model-path", "nowhere/best_checkpoint.pt"], "python train_xcoax.py"),
    (["--instruct-path", "nowhere/best_checkpoint.pt"], "python finetune_xcoax.py"),
    (["--host", "999.1.1.1"], "--host 999.1.1.1 --port 0"), (["--port", 70_000], "a number from 0 to 65535"),
    (["--rows", 0], "--rows must be at least 1"), (["--rate", -1], "--rate takes a number above 0, or off"),
    (["--speed", 0], "--speed takes a number above 0, or off"), (["--tokens", 2000], "more than --most-tokens 1000"),
    (["--temperature", -1], "temp= takes")])
def test_a_flag_that_does_not_fit_is_answered(checkpoints, args, words):
    assert words in complaint(serve_xcoax, "--model-path", checkpoints["reverse"], "--port", 0, *args)


def test_a_base_model_for_the_chat_or_the_other_way_round_is_refused(checkpoints):
    for base, instruct in (("instruct", "instruct"), ("reverse", "reverse")):
        said = complaint(serve_xcoax, "--model-path", checkpoints[base], "--instruct-path", checkpoints[instruct],
                         "--port", 0)
        assert str(checkpoints[base]) in said and ".py" in said


def test_a_wall_needs_endings(checkpoints, tmp_path):
    (tmp_path / "endings.txt").write_text(" \n\n")
    args = "--model-path", checkpoints["reverse"], "--kiosk", tmp_path / "endings.txt"
    assert "endings.txt holds no ending" in complaint(serve_xcoax, *args)
    assert "nowhere.txt" in complaint(serve_xcoax, *args[:3], tmp_path / "nowhere.txt")


def test_without_an_instruct_model_it_is_said_once_that_there_is_no_chat(checkpoints, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    settings = serve_xcoax.ServeSettings(model_path=str(checkpoints["reverse"]))
    assert serve_xcoax.open_chat(settings) is None
    assert "No chat: there is no out/xcoax_instruct" in capsys.readouterr().out
