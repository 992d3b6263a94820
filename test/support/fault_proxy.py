#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
#
# Breaks things between a client and an HTTPS server (the Kubernetes API): ends
# TLS, speaks HTTP/1.1, passes requests on as they are, streams answers.
#
#   fault_proxy.py --listen 127.0.0.1:7443 --cert FILE --key FILE
#                  --upstream 10.77.2.1:443 [--upstream-ca FILE]
#                  [--control 127.0.0.1:7480] [--seed N] [--rules FILE]
#
# The certificate must name the address that clients use (a cluster's api.crt and
# api.key do for 127.0.0.1). Prints "ready" when it listens. Port 0 is allowed, the
# line then is "ready LISTEN_PORT CONTROL_PORT". SIGTERM ends it.
#
# At run time, over the control port (plain HTTP, loopback):
#   POST /rules          a JSON list, instead of the present one; [] ends all faults
#   POST /away           "refuse" (connections are refused, present ones broken),
#                        "hang" (taken, never answered), "" (back)
#   POST /break-watches  every watch that is under way, at once
#   GET  /counters       {"requests": …, "forwarded": …, "watches": open now,
#                        "faults": {kind: …}, "methods": {…}, "connections": …}
#   GET  /rules
#   curl -s --data '[{"kind": "answer", "code": 503, "p": 0.1}]' 127.0.0.1:7480/rules
#
# A rule: {"kind": …, "p": probability (1)[, "method": regex][, "path": regex, of
# path and query][, "watch": true|false][, "limit": how many times at most]}.
# Rules are asked in order; the first that hits decides, only delays go on to the next:
#   drop-before   the connection is broken, the server never sees the request
#   drop-after    the server's answer is lost
#   cut           half of the answer, then the connection is broken; of a watch: half
#                 of a piece, at the first piece after min_ms … max_ms
#   break         a watch is broken min_ms … max_ms after it began (1000 … 5000)
#   expire        a watch gets the event that says 410
#   answer        {"code": N[, "retry_after": seconds][, "after": true: the server
#                 has acted all the same]}: an error with the API's Status object
#   delay         min_ms … max_ms before the request goes on (10 … 100)

import argparse
import asyncio
import json
import random
import re
import signal
import ssl
import sys
from collections import Counter

REASONS = {400: "BadRequest", 401: "Unauthorized", 403: "Forbidden", 404: "NotFound", 409: "Conflict", 410: "Expired",
           422: "Invalid", 429: "TooManyRequests", 500: "InternalError", 502: "BadGateway", 503: "ServiceUnavailable",
           504: "Timeout"}
KINDS = {"drop-before", "drop-after", "cut", "break", "expire", "answer", "delay"}
KNOWN = {"kind", "p", "method", "path", "watch", "limit", "min_ms", "max_ms", "code", "retry_after", "after"}
HEAD_LIMIT = 1 << 16


class Gone(Exception):
    """A peer has closed, or we break the connection."""


class Head:
    """First line and headers of a request or an answer, kept as they came."""

    def __init__(self, raw):
        self.raw = raw
        lines = raw.decode("latin-1").split("\r\n")
        self.first = lines[0]
        self.headers = {}
        for line in lines[1:]:
            name, colon, value = line.partition(":")
            if colon:
                self.headers[name.strip().lower()] = value.strip()

    def chunked(self):
        return "chunked" in self.headers.get("transfer-encoding", "").lower()

    def length(self):
        return int(self.headers["content-length"]) if "content-length" in self.headers else None


async def read_head(reader):
    try:
        return Head(await reader.readuntil(b"\r\n\r\n"))
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError, ssl.SSLError, OSError) as e:
        raise Gone(str(e)) from e


async def body_pieces(reader, head, until_end):
    """The body as it comes, with its framing."""
    try:
        if head.chunked():
            while True:
                line = await reader.readuntil(b"\r\n")
                size = int(line.split(b";")[0], 16)
                if size == 0:
                    trailer = b""
                    while not trailer.endswith(b"\r\n\r\n") and trailer != b"\r\n":
                        trailer += await reader.readuntil(b"\r\n")
                    yield line + trailer
                    return
                # One piece per chunk: a watch's event must not wait for the next.
                yield line + await reader.readexactly(size + 2)
        elif head.length() is not None:
            left = head.length()
            while left:
                data = await reader.read(min(left, 1 << 16))
                if not data:
                    raise Gone("the body ended early")
                left -= len(data)
                yield data
        elif until_end:
            while data := await reader.read(1 << 16):
                yield data
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError, ssl.SSLError, ValueError) as e:
        raise Gone(str(e)) from e


def error_answer(rule):
    code = rule["code"]
    status = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": code,
              "reason": REASONS.get(code, "Unknown"), "message": f"the fault proxy answers {code}"}
    body = json.dumps(status).encode()
    again = f"Retry-After: {rule['retry_after']}\r\n" if "retry_after" in rule else ""
    return (f"HTTP/1.1 {code} {REASONS.get(code, 'Unknown')}\r\nContent-Type: application/json\r\n{again}"
            f"Content-Length: {len(body)}\r\n\r\n").encode() + body


def expired_watch():
    status = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": 410,
              "reason": "Expired", "message": "too old resource version (the fault proxy says)"}
    line = json.dumps({"type": "ERROR", "object": status}).encode() + b"\n"
    return (b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
            + f"{len(line):x}\r\n".encode() + line + b"\r\n0\r\n\r\n")


def checked_rules(rules):
    if not isinstance(rules, list):
        raise ValueError("rules are a list")
    for rule in rules:
        if rule.get("kind") not in KINDS:
            raise ValueError(f"no such kind: {rule.get('kind')}; known: {', '.join(sorted(KINDS))}")
        if set(rule) - KNOWN:
            raise ValueError(f"unknown members: {', '.join(set(rule) - KNOWN)}")
        if rule["kind"] == "answer" and "code" not in rule:
            raise ValueError("answer wants a code")
        for pattern in ("method", "path"):
            if pattern in rule:
                re.compile(rule[pattern])
    return rules


class Proxy:
    def __init__(self, args):
        self.args = args
        self.random = random.Random(args.seed)
        self.rules = []
        self.used = Counter()     # of a rule, by its place
        self.faults, self.methods = Counter(), Counter()
        self.requests = self.forwarded = self.connections = 0
        self.away = ""
        self.clients, self.watches = set(), set()   # writers
        self.server = None
        self.tls_in = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.tls_in.load_cert_chain(args.cert, args.key)
        self.tls_in.set_alpn_protocols(["http/1.1"])
        self.tls_out = ssl.create_default_context(cafile=args.upstream_ca)
        if not args.upstream_ca:
            self.tls_out.check_hostname, self.tls_out.verify_mode = False, ssl.CERT_NONE
        self.tls_out.set_alpn_protocols(["http/1.1"])

    # ---- rules -------------------------------------------------------------------
    def set_rules(self, rules):
        self.rules, self.used = checked_rules(rules), Counter()

    def hits(self, place, rule, method, target, is_watch):
        if "limit" in rule and self.used[place] >= rule["limit"]:
            return False
        if "method" in rule and not re.fullmatch(rule["method"], method):
            return False
        if "path" in rule and not re.search(rule["path"], target):
            return False
        if "watch" in rule and rule["watch"] != is_watch:
            return False
        if rule["kind"] in ("break", "expire") and not is_watch:
            return False
        return self.random.random() < rule.get("p", 1)

    def fault_for(self, method, target, is_watch):
        """(delay in seconds, the rule that decides or None)"""
        delay = 0.0
        for place, rule in enumerate(self.rules):
            if not self.hits(place, rule, method, target, is_watch):
                continue
            self.used[place] += 1
            self.faults[rule["kind"] if rule["kind"] != "answer" else str(rule["code"])] += 1
            if rule["kind"] != "delay":
                return delay, rule
            delay += self.some_seconds(rule, 10, 100)
        return delay, None

    def some_seconds(self, rule, least, most):
        least = rule.get("min_ms", least)
        return self.random.uniform(least, max(least, rule.get("max_ms", most))) / 1000

    # ---- a client's connection -----------------------------------------------------
    async def serve(self, reader, writer):
        self.connections += 1
        self.clients.add(writer)
        held = []   # the connection to the server, made when it is needed
        try:
            while True:
                head = await read_head(reader)
                body = b"".join([piece async for piece in body_pieces(reader, head, until_end=False)])
                await self.exchange(head, body, reader, writer, held)
        except (Gone, ConnectionError, ssl.SSLError, OSError, asyncio.TimeoutError):
            pass
        finally:
            self.clients.discard(writer)
            self.watches.discard(writer)
            writer.transport.abort()
            for upstream in held:
                upstream[1].transport.abort()

    async def exchange(self, head, body, reader, writer, held):
        method, target = head.first.split(" ")[:2]
        is_watch = re.search(r"[?&]watch=(1|true)\b", target) is not None
        self.requests += 1
        self.methods[method] += 1
        if self.away == "hang":
            await reader.read(1)   # until the client has enough
            raise Gone()
        delay, rule = self.fault_for(method, target, is_watch)
        kind = rule["kind"] if rule else ""
        if delay:
            await asyncio.sleep(delay)
        if kind == "drop-before":
            raise Gone()
        if kind == "expire":
            writer.write(expired_watch())
            await writer.drain()
            return
        if kind == "answer" and not rule.get("after"):
            writer.write(error_answer(rule))
            await writer.drain()
            return
        answer = await self.forward(head, body, held)
        upstream = held[0]
        if answer.first.split(" ")[1] == "101":
            await self.tunnel(answer, reader, writer, upstream)
        if is_watch:
            await self.stream_watch(answer, rule, reader, writer, upstream)
            await self.flush(writer)
            raise Gone()   # its guard may have read on
        await self.pass_answer(method, answer, rule, writer, upstream)
        if answer.headers.get("connection", "").lower() == "close":
            await self.flush(writer)
            raise Gone()

    async def forward(self, head, body, held):
        """The head of the server's answer. An idle connection that it has closed meanwhile is replaced."""
        self.forwarded += 1
        if held and (held[0][0].at_eof() or held[0][1].transport.is_closing()):
            held.pop()[1].transport.abort()
        while True:
            fresh = not held
            if fresh:
                host, port = self.args.upstream
                held.append(await asyncio.open_connection(host, port, ssl=self.tls_out, limit=HEAD_LIMIT,
                                                          server_hostname=host))
            held[0][1].write(head.raw + body)
            await held[0][1].drain()
            try:
                return await read_head(held[0][0])
            except Gone:
                held.pop()[1].transport.abort()
                # A change that was sent may have been made: that is the client's to find out.
                if fresh or head.first.split(" ")[0] != "GET":
                    raise

    async def pass_answer(self, method, answer, rule, writer, upstream):
        kind = rule["kind"] if rule else ""
        no_body = method == "HEAD" or answer.first.split(" ")[1] in ("204", "304")
        pieces = [answer.raw]
        if kind in ("drop-after", "cut", "answer"):
            if not no_body:
                pieces += [p async for p in body_pieces(upstream[0], answer, until_end=True)]
            whole = b"".join(pieces)
            if kind == "drop-after":
                raise Gone()
            writer.write(whole[:len(whole) // 2] if kind == "cut" else error_answer(rule))
            await self.flush(writer)
            if kind == "cut":
                raise Gone()
            return
        writer.write(answer.raw)
        if not no_body:
            async for piece in body_pieces(upstream[0], answer, until_end=True):
                writer.write(piece)
                await writer.drain()
        await writer.drain()

    async def until_gone(self, reader, upstream):
        """A client that leaves a watch ends it at the server as well."""
        try:
            await reader.read(1)
        except (ConnectionError, ssl.SSLError, OSError):
            pass
        upstream[1].transport.abort()

    async def stream_watch(self, answer, rule, reader, writer, upstream):
        kind = rule["kind"] if rule else ""
        loop = asyncio.get_running_loop()
        end = loop.time() + self.some_seconds(rule, 1000, 5000) if kind in ("break", "cut") else None
        timer = loop.call_at(end, writer.transport.abort) if kind == "break" else None
        if kind == "drop-after":
            raise Gone()
        self.watches.add(writer)
        guard = asyncio.ensure_future(self.until_gone(reader, upstream))
        try:
            writer.write(answer.raw)
            await writer.drain()
            async for piece in body_pieces(upstream[0], answer, until_end=True):
                if kind == "cut" and loop.time() >= end:
                    writer.write(piece[:len(piece) // 2])
                    await self.flush(writer)
                    raise Gone()
                writer.write(piece)
                await writer.drain()
        finally:
            self.watches.discard(writer)
            guard.cancel()
            if timer:
                timer.cancel()

    async def tunnel(self, answer, reader, writer, upstream):
        async def pump(source, sink):
            while data := await source.read(1 << 16):
                sink.write(data)
                await sink.drain()
        writer.write(answer.raw)
        await asyncio.wait([asyncio.ensure_future(pump(reader, upstream[1])),
                            asyncio.ensure_future(pump(upstream[0], writer))], return_when=asyncio.FIRST_COMPLETED)
        await self.flush(writer)
        raise Gone()

    async def flush(self, writer):
        await writer.drain()
        for _ in range(200):
            if writer.transport.get_write_buffer_size() == 0:
                break
            await asyncio.sleep(0.005)
        await asyncio.sleep(0.005)

    # ---- control -----------------------------------------------------------------
    async def listen(self):
        host, port = self.args.listen
        self.server = await asyncio.start_server(self.serve, host, port, ssl=self.tls_in, limit=HEAD_LIMIT,
                                                 reuse_address=True, backlog=256)
        self.args.listen = (host, self.server.sockets[0].getsockname()[1])

    async def set_away(self, mode):
        if mode not in ("", "refuse", "hang"):
            raise ValueError('away is "refuse", "hang" or ""')
        if self.server and mode == "refuse":
            self.server.close()
            self.server = None
        self.away = mode
        for writer in list(self.clients):
            writer.transport.abort()
        if mode != "refuse" and not self.server:
            await self.listen()

    def counters(self):
        return {"requests": self.requests, "forwarded": self.forwarded, "connections": self.connections,
                "watches": len(self.watches), "faults": dict(self.faults), "methods": dict(self.methods)}

    async def command(self, method, path, body):
        if (method, path) == ("GET", "/counters"):
            return self.counters()
        if (method, path) == ("GET", "/rules"):
            return self.rules
        if (method, path) == ("POST", "/rules"):
            self.set_rules(json.loads(body or "[]"))
        elif (method, path) == ("POST", "/away"):
            await self.set_away(json.loads(body) if body.startswith(b'"') else body.decode().strip())
        elif (method, path) == ("POST", "/break-watches"):
            broken = list(self.watches)
            for writer in broken:
                writer.transport.abort()
            return {"broken": len(broken)}
        else:
            raise ValueError(f"no such command: {method} {path}")
        return {}

    async def control(self, reader, writer):
        try:
            head = await read_head(reader)
            body = b"".join([piece async for piece in body_pieces(reader, head, until_end=False)])
            method, path = head.first.split(" ")[:2]
            try:
                code, text = "200 OK", json.dumps(await self.command(method, path, body))
            except (ValueError, re.error, AttributeError) as e:
                code, text = "400 Bad Request", json.dumps({"error": str(e)})
            data = text.encode() + b"\n"
            writer.write(f"HTTP/1.1 {code}\r\nContent-Type: application/json\r\nConnection: close\r\n"
                         f"Content-Length: {len(data)}\r\n\r\n".encode() + data)
            await writer.drain()
        except (Gone, ConnectionError):
            pass
        finally:
            writer.close()


def address(text):
    host, _, port = text.rpartition(":")
    return host.strip("[]"), int(port)


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--listen", type=address, required=True)
    parser.add_argument("--cert", required=True)
    parser.add_argument("--key", required=True)
    parser.add_argument("--upstream", type=address, required=True)
    parser.add_argument("--upstream-ca")
    parser.add_argument("--control", type=address, default=("127.0.0.1", 0))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rules")
    proxy = Proxy(parser.parse_args())
    if proxy.args.rules:
        with open(proxy.args.rules, encoding="utf-8") as f:
            proxy.set_rules(json.load(f))
    await proxy.listen()
    control = await asyncio.start_server(proxy.control, *proxy.args.control)
    print("ready", proxy.args.listen[1], control.sockets[0].getsockname()[1], flush=True)
    end = asyncio.Event()
    for each in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(each, end.set)
    await end.wait()
    print(json.dumps(proxy.counters()), file=sys.stderr, flush=True)
    for writer in list(proxy.clients):
        writer.transport.abort()


if __name__ == "__main__":
    asyncio.run(main())
