"""A hub for one model: as much of its protocol as downloading a commit needs."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@contextmanager
def hub(name: str, folder: Path) -> Iterator[str]:
    """Serve a folder's files as a model's only commit; yields the address."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            files = sorted(folder.iterdir())
            if path == f"/api/models/{name}/revision/{COMMIT}":
                siblings = [{"rfilename": file.name} for file in files]
                self.answer(json.dumps({"id": name, "sha": COMMIT, "siblings": siblings}).encode())
            elif path == f"/api/models/{name}/tree/{COMMIT}":
                entries = [
                    {"type": "file", "path": file.name, "size": file.stat().st_size, "oid": file.name}
                    for file in files
                ]
                self.answer(json.dumps(entries).encode())
            elif path.startswith(f"/{name}/resolve/{COMMIT}/"):
                self.answer((folder / Path(path).name).read_bytes(), etag=Path(path).name)
            else:
                self.send_error(404)

        def answer(self, body: bytes, etag: str = "") -> None:
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("ETag", f'"{etag}"')
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def log_message(self, *_said: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
