"""Files on a web server of this process."""

import os
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from unittest import mock


class Server(ThreadingHTTPServer):
    """Files by name; a path that begins with /cut sends half of what it announces."""

    def __init__(self, files):
        self.files, self.asked = files, []
        super().__init__(("127.0.0.1", 0), _Handler)

    def url(self, name):
        return f"http://127.0.0.1:{self.server_port}/{name}"


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)
        data = self._answered()
        self.wfile.write(data[: len(data) // 2 if self.path.startswith("/cut/") else None])

    def do_HEAD(self):
        self._answered()

    def _answered(self):
        data = self.server.files.get(self.path.removeprefix("/").removeprefix("cut/"))
        self.send_response(200 if data is not None else 404)
        self.send_header("Content-Length", str(len(data or b"")))
        self.end_headers()
        return data or b""

    def log_message(self, *_):
        pass


@contextmanager
def serving(files):
    """A server of files, {name: bytes}, while the block lasts."""
    server = Server(files)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        with mock.patch.dict(os.environ, {"NO_PROXY": "127.0.0.1"}):
            yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
