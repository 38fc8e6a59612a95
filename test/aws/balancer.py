"""An Application Load Balancer's data plane: a proxy in front of a listener of moto, whose rules and targets it reads at each request.

As Elastic Load Balancing's documentation has it: rules by priority, conditions on host and path, weights, 503 without targets, 502 and 504 for
targets that do not answer as HTTP or at all, all targets where none is healthy, requests in flight end as they would unless the delay of
deregistration is over first. Not as there: one address, no TLS (an HTTPS listener is spoken to in plain HTTP), a new connection to the target
for each request, a changed rule takes effect with the next request, other conditions than host, path and method match nothing.
"""
import fnmatch
import http.client
import itertools
import random
import re
import socket
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from account import lock
from targets import listeners, matching_rule, targets_of, weights_of

# Elastic Load Balancing guide, "Connection idle timeout" and "HTTP 504": of the whole exchange, and of connecting to a target.
IDLE_SECONDS = 60
CONNECT_SECONDS = 10
CHUNK = 64 * 1024
# Of one connection alone (RFC 9110, 7.6.1).
HOP_BY_HOP = {"connection", "expect", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"}
_turn = itertools.count()


def listen(listener_arn, host, port):
    """Starts a proxy of a listener (None: of whichever there is) at this address; 0 is any free port. Returns the port."""
    server = Server((host, port), Handler)
    server.listener_arn = listener_arn
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_address[1]


class Server(ThreadingHTTPServer):
    request_queue_size = 256
    daemon_threads = True
    listener_arn = None

    def handle_error(self, request, client_address):
        if not isinstance(sys.exc_info()[1], (ConnectionError, TimeoutError)):
            super().handle_error(request, client_address)
        # Else the client went away, as clients do.


class Answer(Exception):
    """What the balancer says itself."""

    def __init__(self, status, body="", content_type="text/plain", headers=None):
        super().__init__(status)
        self.status, self.body, self.headers = status, body, {"Content-Type": content_type, **(headers or {})}


# ---------------------------------------------------------------- where to

def find_target(listener_arn, request):
    """The target for a request; or raises what the balancer answers itself."""
    with lock:
        listener = next((one for _, one in listeners() if listener_arn in (None, one.arn)), None)
        if listener is None:
            raise Answer(503, "this listener does not exist any more\n")
        rule = matching_rule(listener, lambda condition: is_met(condition, request))
        for action in rule.actions if rule else listener.default_actions:
            kind = action.data["Type"]
            if kind == "forward":
                return choose(weights_of(action))
            if kind == "fixed-response":
                told = action.data["FixedResponseConfig"]
                raise Answer(int(told["StatusCode"]), told.get("MessageBody") or "", told.get("ContentType") or "text/plain")
            if kind == "redirect":
                raise redirect(action.data["RedirectConfig"], listener, request)
        raise Answer(503)


def is_met(condition, request):
    field = condition["Field"]
    values = condition.get("Values") or next((one.get("Values") for name, one in condition.items() if name.endswith("Config") and one), None) or []
    if field == "host-header":
        return any(matches(request.host.lower(), value.lower()) for value in values)
    if field == "path-pattern":
        return any(matches(request.path.split("?")[0], value) for value in values)
    if field == "http-request-method":
        return request.command in values
    return False


def matches(text, pattern):
    """`*` and `?` are all that a pattern knows."""
    return fnmatch.fnmatchcase(text, pattern.replace("[", "[[]"))


def redirect(told, listener, request):
    path, _, query = request.path.partition("?")
    # Elastic Load Balancing API, RedirectActionConfig: what is not given stays as it was.
    known = {"protocol": listener.protocol.lower(), "host": request.host, "port": str(listener.port), "path": path.lstrip("/"), "query": query}
    parts = {name: re.sub(r"#\{(\w+)\}", lambda found: known[found[1]], told.get(name.capitalize()) or default) for name, default in
             (("protocol", "#{protocol}"), ("host", "#{host}"), ("port", "#{port}"), ("path", "/#{path}"), ("query", "#{query}"))}
    location = "%s://%s:%s%s%s" % (parts["protocol"].lower(), parts["host"], parts["port"], parts["path"], "?" + parts["query"] if parts["query"] else "")
    return Answer(int(told["StatusCode"].split("_")[1]), headers={"Location": location})


def choose(weighted):
    groups = [(arn, weight) for arn, weight in weighted if weight > 0]
    if not groups:
        raise Answer(503)
    arn = random.choices([arn for arn, _ in groups], [weight for _, weight in groups])[0]
    registered = [one for one in targets_of(arn).values() if one.state != "draining"]
    healthy = [one for one in registered if one.state == "healthy"]
    able = healthy or registered  # where none is healthy, all are asked
    if not able:
        raise Answer(503)
    return able[next(_turn) % len(able)]


# ---------------------------------------------------------------- requests

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "stand-in", ""
    disable_nagle_algorithm = True
    wbufsize = CHUNK
    timeout = IDLE_SECONDS

    def handle_one_request(self):
        try:
            super().handle_one_request()
        except (ConnectionError, TimeoutError):
            self.close_connection = True

    def handle_expect_100(self):
        super().handle_expect_100()
        self.wfile.flush()
        return True

    def pass_on(self):
        self.host = re.sub(r":\d+$", "", self.headers.get("Host") or "")
        self.has_begun = False
        try:
            target = find_target(self.server.listener_arn, self)
            self.exchange(target)
        except Answer as answer:
            self.answer(answer)
        except TimeoutError:
            self.answer(Answer(504))
        except (OSError, http.client.HTTPException):
            self.answer(Answer(502))

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = pass_on

    def answer(self, answer):
        if self.has_begun:
            self.close_connection = True  # too late to say so: the connection ends in the middle, as the client should see
            return
        # What is left of a request's body would be taken for the next request.
        self.close_connection = self.close_connection or "Content-Length" in self.headers or "Transfer-Encoding" in self.headers
        body = answer.body.encode()
        self.send_response_only(answer.status)
        for name, value in {**answer.headers, "Content-Length": len(body), "Connection": "close" if self.close_connection else "keep-alive"}.items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(b"" if self.command == "HEAD" else body)
        self.wfile.flush()

    def exchange(self, target):
        connection = http.client.HTTPConnection(target.ip, target.port, timeout=CONNECT_SECONDS)
        connection.connect()
        connection.sock.settimeout(IDLE_SECONDS)
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        target.connections.add(connection.sock)
        sock = connection.sock
        try:
            self.send_request(connection)
            response = connection.getresponse()
            if response.status == 101:
                self.tunnel(response, sock)
            else:
                self.send_reply(response)
        finally:
            target.connections.discard(sock)
            sock.close()
            connection.close()

    def send_request(self, connection):
        connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        upgrades = "upgrade" in (self.headers.get("Connection") or "").lower()
        for name, value in self.headers.items():
            if name.lower() not in HOP_BY_HOP and not name.lower().startswith("x-forwarded-"):
                connection.putheader(name, value)
        before = self.headers.get("X-Forwarded-For")
        connection.putheader("X-Forwarded-For", ", ".join(filter(None, [before, self.client_address[0]])))
        connection.putheader("X-Forwarded-Proto", "http")
        connection.putheader("X-Forwarded-Port", str(self.server.server_address[1]))
        if upgrades:
            connection.putheader("Connection", "Upgrade")
            connection.putheader("Upgrade", self.headers.get("Upgrade") or "")
        is_chunked = "chunked" in (self.headers.get("Transfer-Encoding") or "").lower()
        if is_chunked:
            connection.putheader("Transfer-Encoding", "chunked")
        connection.endheaders()
        for piece in self.chunks() if is_chunked else self.sized():
            connection.send(piece)

    def sized(self):
        left = int(self.headers.get("Content-Length") or 0)
        while left > 0:
            piece = self.rfile.read1(min(CHUNK, left))
            if not piece:
                raise ConnectionError("the client went away")
            left -= len(piece)
            yield piece

    def chunks(self):
        """The chunks as they came, frames and trailers too."""
        size = None
        while size != 0:
            line = self.rfile.readline()
            size = int(line.split(b";")[0], 16)
            yield line
            if size > 0:
                yield self.rfile.read(size + 2)
        line = None
        while line not in (b"\r\n", b"\n", b""):
            line = self.rfile.readline()
            yield line

    def send_reply(self, response):
        has_body = self.command != "HEAD" and response.status not in (204, 304)
        is_sized = response.getheader("Content-Length") is not None
        # A client of HTTP/1.0 knows no chunks: its body ends with the connection.
        is_chunked = has_body and not is_sized and self.request_version != "HTTP/1.0"
        self.has_begun = True
        self.send_response_only(response.status, response.reason)
        for name, value in response.getheaders():
            if name.lower() not in HOP_BY_HOP:
                self.send_header(name, value)
        if is_chunked:
            self.send_header("Transfer-Encoding", "chunked")
        elif has_body and not is_sized:
            self.close_connection = True
        self.send_header("Connection", "close" if self.close_connection else "keep-alive")
        self.end_headers()
        sent = 0
        while has_body and (piece := response.read1(CHUNK)):
            sent += len(piece)
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece) if is_chunked else piece)
            self.wfile.flush()
        if has_body and is_sized and sent < int(response.getheader("Content-Length")):
            raise ConnectionError("the target went away in its answer")
        if is_chunked:
            self.wfile.write(b"0\r\n\r\n")
        self.wfile.flush()

    def tunnel(self, response, sock):
        """After an upgrade both sides speak as they like."""
        self.has_begun = self.close_connection = True
        self.send_response_only(101, response.reason)
        for name, value in response.getheaders():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.flush()
        sock.settimeout(None)

        def outwards():
            while piece := self.rfile.read1(CHUNK):
                sock.sendall(piece)
            sock.shutdown(socket.SHUT_WR)

        def quietly():
            try:
                outwards()
            except OSError:
                pass

        threading.Thread(target=quietly, daemon=True).start()
        while piece := response.fp.read1(CHUNK):
            self.wfile.write(piece)
            self.wfile.flush()

    def log_message(self, *arguments):
        pass
