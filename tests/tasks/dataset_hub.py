"""A hub on this machine with one data set, for the real clients of the hub."""

import contextlib
import hashlib
import http.server
import json
import threading
from collections.abc import Iterator, Mapping

_COMMIT = 'c' * 40


@contextlib.contextmanager
def serve(repo: str, files: Mapping[str, bytes]) -> Iterator[str]:
    """Yields the address of a hub that has the files of a data set at one commit, and no more.

    Args:
      repo: 'owner/name'.
      files: content by path.
    """

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.partition('?')[0]
            name = path.partition(f'/datasets/{repo}/resolve/')[2].partition('/')[2]
            if name in files:
                self._answer(200, files[name], {'ETag': f'"{_id(files[name])}"'})
            elif path.startswith(f'/api/datasets/{repo}/tree/'):
                directory = path.partition('/tree/')[2].partition('/')[2]
                self._answer(200, [e for e in entries if e['path'].startswith(directory)])
            elif path.startswith(f'/api/datasets/{repo}'):
                siblings = [{'rfilename': name} for name in files]
                self._answer(200, {'id': repo, 'sha': _COMMIT, 'siblings': siblings, 'tags': []})
            else:
                self._answer(404, {'error': 'no'}, {'X-Error-Code': 'EntryNotFound'})

        do_HEAD = do_GET

        def _answer(self, status: int, content: object, head: Mapping[str, str] = {}) -> None:
            body = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            for key, value in {**head, 'X-Repo-Commit': _COMMIT}.items():
                self.send_header(key, value)
            self.send_header('Content-Length', str(len(body)))
            self.end_headers()
            if self.command == 'GET':
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    entries = [
        {'type': 'file', 'path': path, 'size': len(body), 'oid': _id(body)}
        for path, body in files.items()
    ]
    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f'http://127.0.0.1:{server.server_port}'
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _id(content: bytes) -> str:
    """Returns git's name of a file's content."""
    return hashlib.sha1(b'blob %d\0' % len(content) + content).hexdigest()
