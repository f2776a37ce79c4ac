"""A port of the stand-in: reads requests, writes replies, and closes all connections when it stops."""

import contextlib
import functools
import socket
import socketserver
import sys
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from .faults import Port, Reply, Request


class Listener(ThreadingHTTPServer):
    """One port, whose connections and threads end when it stops."""

    request_queue_size = 64

    def __init__(
        self, kind: Port, answer: Callable[[Request], Reply | None], errors: list[BaseException]
    ) -> None:
        self.kind: Port = kind
        self.answer, self.errors = answer, errors
        self._connections: set[socket.socket] = set()
        self._workers: set[threading.Thread] = set()
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        # Stopping takes up to one interval.
        serve = functools.partial(self.serve_forever, poll_interval=0.02)
        self._thread = threading.Thread(target=serve, daemon=True)
        self._thread.start()

    def server_bind(self) -> None:
        """Binds without looking up the host's name, which may take a while."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = "127.0.0.1", int(self.server_address[1])

    def stop(self) -> None:
        """Ends every connection, including those that a client keeps open."""
        self.shutdown()
        self._thread.join()
        self.server_close()
        for connection in list(self._connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for worker in list(self._workers):
            worker.join()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answers a connection's requests in its own thread."""
        self._connections.add(request)
        worker = threading.Thread(target=self._work, args=(request, client_address), daemon=True)
        self._workers.add(worker)
        worker.start()

    def _work(self, request: Any, client_address: Any) -> None:
        try:
            self.process_request_thread(request, client_address)
        finally:
            self._connections.discard(request)
            self._workers.discard(threading.current_thread())

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Records an error, unless a client closed the connection."""
        error = sys.exception()
        if error is not None and not isinstance(error, ConnectionError):
            self.errors.append(error)


class _Handler(BaseHTTPRequestHandler):
    server: Listener  # pyright: ignore[reportIncompatibleVariableOverride]
    protocol_version = "HTTP/1.1"
    # Headers and body are separate writes; with Nagle's algorithm the body would wait for an acknowledgement.
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: Any) -> None:
        """Prints nothing."""

    def _serve(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(self.command, self.path, self.server.kind, headers, self._body())
        reply = self.server.answer(request)
        if reply is None:
            self.close_connection = True
            return
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        length = len(reply.body) if reply.announced is None else reply.announced
        if reply.endless:
            self.close_connection = True
        else:
            self.send_header("Content-Length", str(length))
        self.end_headers()
        if self.command == "HEAD":
            return
        while reply.endless:
            # Ended by the client, which closes the connection.
            self.wfile.write(reply.body)
        if reply.pause:
            for byte in reply.body:
                self.wfile.write(bytes([byte]))
                time.sleep(reply.pause)
            return
        self.wfile.write(reply.body[: reply.sent])
        if reply.sent is not None:
            self.close_connection = True

    do_GET = do_HEAD = do_POST = do_PUT = _serve

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        chunks: list[bytes] = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)
