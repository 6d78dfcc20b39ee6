"""Web servers of this machine that serve a folder, and what commands say of them."""

import functools
import http.server
import os
import threading

from modgap.cli import main


def refused(capsys, *words):
    """The one line that a command that was refused leaves."""
    capsys.readouterr()
    assert main(list(words)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Python's own server of files: pages of links for folders, and no byte ranges."""

    def log_message(self, *args):
        pass


class Ranges(Quiet):
    """The same with byte ranges, as servers that people run have them."""

    def do_GET(self):
        path = self.translate_path(self.path)
        asked = self.headers.get("Range")
        if asked is None or not os.path.isfile(path):
            super().do_GET()
            return
        with open(path, "rb") as file:
            data = file.read()
        first, last = asked.removeprefix("bytes=").split("-")
        part = data[int(first) : int(last) + 1]
        self.send_response(206)
        self.send_header("Content-Length", str(len(part)))
        self.send_header("Content-Range", f"bytes {first}-{int(first) + len(part) - 1}/{len(data)}")
        self.end_headers()
        self.wfile.write(part)


class Refusing(Quiet):
    """A server that knows nobody."""

    def do_GET(self):
        self.send_error(403)

    do_HEAD = do_PUT = do_GET


class serving:
    """The address of a web server of a folder, while the body runs."""

    def __init__(self, handler, folder="."):
        serve = functools.partial(handler, directory=str(folder))
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), serve)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))

    def __enter__(self):
        self.thread.start()
        return f"http://127.0.0.1:{self.server.server_port}"

    def __exit__(self, *_):
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()
