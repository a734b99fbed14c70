"""A Hugging Face hub on 127.0.0.1 that serves one data set repository, as much of it as `datasets` asks for."""

import hashlib
import http.server
import json
import threading
import urllib.parse
from contextlib import contextmanager

from tests.support.files import parquet_bytes

FINEWEB_CARD = b"""---
configs:
- config_name: default
  data_files:
  - split: train
    path: data/*/*
- config_name: sample-100BT
  data_files:
  - split: train
    path: sample/100BT/*
---
"""


def fineweb_bytes(texts, url="https://example.com/", **options):
    """A file in FineWeb's nine columns."""
    n = len(texts)
    return parquet_bytes({
        "text": texts, "id": [f"<urn:uuid:{i}>" for i in range(n)], "dump": ["CC-MAIN-2013-20"] * n, "url": [url] * n,
        "date": ["2013-05-18T05:48:54Z"] * n, "file_path": ["s3://commoncrawl/1.warc.gz"] * n, "language": ["en"] * n,
        "language_score": [0.97] * n, "token_count": [len(text) // 4 for text in texts]}, **options)


def fineweb_files(documents_of_files):
    """The repository's files: a card, the whole of FineWeb, which must not be read, and the sample."""
    return {"README.md": FINEWEB_CARD, "data/CC-MAIN-2013-20/000_00000.parquet": fineweb_bytes(["not of the sample"]),
            **{f"sample/100BT/{i:03d}_00000.parquet": fineweb_bytes(texts)
               for i, texts in enumerate(documents_of_files)}}


@contextmanager
def hub():
    """Yields a server with .url and .asked [(method, path, (first, last) byte or None)]; what it holds is settled by
    .serve(repository, files), and .status makes every answer that error, "silent" none at all.

    A request for /die is answered, and is the last one that is.
    """
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_):
            pass

        def answer(self, status, body=b"", **headers):
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def entry(self, path):
            kind = "file" if path in server.files else "directory"
            return {"type": kind, "path": path, "oid": server.commit,
                    "size": len(server.files.get(path, b""))}

        def do_GET(self):
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            path = urllib.parse.unquote(self.path.split("?")[0])
            repository, files, commit = server.repository, server.files, server.commit
            tree = f"/api/datasets/{repository}/tree/{commit}"
            contents = f"/datasets/{repository}/resolve/"
            span = self.headers.get("Range")
            span = span and tuple(int(number) for number in span.removeprefix("bytes=").split("-"))
            server.asked.append((self.command, path, span))
            if path == "/die":
                server.status = 410
                return self.answer(200)
            if server.status == "silent":
                return closing.wait()
            if server.status:
                return self.answer(server.status)
            if path in (f"/api/datasets/{repository}", f"/api/datasets/{repository}/revision/{commit}"):
                return self.answer(200, json.dumps({"id": repository, "sha": commit}).encode())
            if path.startswith(tree):
                folder = path[len(tree):].strip("/")
                inside = [file.split("/") for file in files if not folder or file.startswith(folder + "/")]
                depth = folder.count("/") + 1 if folder else 0
                deepest = 99 if "recursive=true" in self.path.lower() else depth + 1
                found = {"/".join(file[:i]) for file in inside for i in range(depth + 1, min(deepest, len(file)) + 1)}
                return self.answer(200 if found else 404, json.dumps([self.entry(p) for p in sorted(found)]).encode())
            if path == f"/api/datasets/{repository}/paths-info/{commit}":
                wanted = json.loads(body)["paths"]
                return self.answer(200, json.dumps([self.entry(p) for p in wanted if p in files]).encode())
            if path.startswith(contents):
                name = path[len(contents):].split("/", 1)[1]
                if name in files:
                    data, headers = files[name], {"ETag": f'"{hashlib.sha1(files[name]).hexdigest()}"'}
                    if span:
                        headers["Content_Range"] = f"bytes {span[0]}-{span[1]}/{len(data)}"
                        data = data[span[0]:span[1] + 1]
                    return self.answer(206 if span else 200, data, X_Repo_Commit=commit, **headers)
            self.answer(404, b"{}", X_Error_Code="EntryNotFound", X_Repo_Commit=commit)

        do_HEAD = do_POST = do_GET

    closing = threading.Event()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.url = f"http://127.0.0.1:{server.server_port}"

    def serve(repository, files, status=None):
        """From now on this repository; under a commit of its own, since the library remembers what it saw of one."""
        server.repository, server.files, server.status, server.asked = repository, files, status, []
        server.commit = hashlib.sha1(repr(sorted(files.items())).encode()).hexdigest()

    server.serve = serve
    serve("nobody/nothing", {})
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield server
    finally:
        closing.set()
        server.shutdown()
        server.server_close()
