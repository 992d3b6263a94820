#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The server of common_http_test: prints its port, ends with its standard input."""

import http.server
import os
import sys
import threading
import time


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, code, body, *headers):
        self.send_response(code)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def piece(self, data):
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()

    def begin_pieces(self):
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.flush()

    def log_message(self, *args):
        pass

    def handle_any(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path = self.path.split("?")[0]
        if path == "/echo":
            text = f"{self.command} {self.headers.get('Content-Type')} {self.headers.get('X-Test')} ".encode() + body
            self.answer(200, text)
        elif path == "/port":   # of the client: another one is another connection
            self.answer(200, str(self.client_address[1]).encode())
        elif path == "/busy":
            self.answer(429, b"busy", ("Retry-After", "7"))
        elif path == "/moved":
            self.answer(302, b"", ("Location", "/echo"))
        elif path == "/slow":
            time.sleep(3)
            self.answer(200, b"late")
        elif path == "/large":
            self.answer(200, b"x" * 200000)
        elif path == "/half":
            self.send_response(200)
            self.send_header("Content-Length", "100")
            self.end_headers()
            self.wfile.write(b"only this")
            self.close_connection = True
        elif path == "/nothing":
            self.close_connection = True
        elif path == "/pieces":
            self.begin_pieces()
            for each in (b"one", b"two", b"three"):
                self.piece(each)
                time.sleep(0.05)
            self.piece(b"")
        elif path == "/cut":
            self.begin_pieces()
            self.piece(b"one")
            self.close_connection = True
        elif path == "/silent":
            self.begin_pieces()
            time.sleep(3)
            self.close_connection = True
        else:
            self.answer(404, b"not here")

    do_GET = do_POST = do_PATCH = do_DELETE = do_PUT = handle_any


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        pass   # clients leave when they like


server = Server(("127.0.0.1", 0), Handler)
print(server.server_address[1], flush=True)
threading.Thread(target=server.serve_forever, daemon=True).start()
sys.stdin.read()
os._exit(0)
