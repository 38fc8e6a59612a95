"""The other side of ECS Exec: Session Manager's service and the agent in a container, over one WebSocket.

Written from the comments, constants and control flow of the agent (github.com/aws/amazon-ssm-agent, agent/session) and apart from Shipway's own client, in
another language, with its own WebSocket and its own codec: what one of the two has wrong is not mirrored by the other. Still OUR BELIEF about AWS.
It is stricter than the agent: what a client sends wrong is kept in `complaints`, which tests look at.

    python3 exec_agent.py PORT      sessions whose token is JSON: {"command": "sh -c '…'", "faults": {…}}; GET /complaints

Faults: lose_input N (the first N input messages are not heard), lose_acks N, lose_output N (first N outputs are not sent the first time), shuffle (outputs go out in
pairs, the later first), twice (every output is sent two times), corrupt N (first N outputs have a flipped bit the first time), cut_after BYTES (of output, then the connection
breaks), close_after BYTES (then the service closes the session), mute (nothing is answered), no_handshake, encrypt (asks for KMS). A channel named
status-CODE is answered with that HTTP status.
"""
import base64
import fcntl
import hashlib
import json
import os
import pty
import shlex
import signal
import socket
import struct
import subprocess
import sys
import termios
import threading
import time
import uuid
from urllib.parse import parse_qsl, quote, urlsplit

HEADER = 116
PAYLOAD_BYTES = 1024
OUTPUT, SIZE, HANDSHAKE_REQUEST, HANDSHAKE_RESPONSE, HANDSHAKE_COMPLETE = 1, 3, 5, 6, 7
FIRST, ALONE = 1, 3
RESEND_SECONDS = 0.2
HANDSHAKE_SECONDS = 15
# The agent waits a second before it reads what a command printed; the tests have no such time.
FIRST_READ_SECONDS = 0.05


# ---------------------------------------------------------------- messages

def pack(kind, sequence, flags, payload_type, payload):
    identity = uuid.uuid4().bytes
    return (
        struct.pack(">I32sIQqQ", HEADER, kind.encode().ljust(32), 1, int(time.time() * 1000), sequence, flags)
        + identity[8:] + identity[:8] + hashlib.sha256(payload).digest() + struct.pack(">II", payload_type, len(payload)) + payload
    )


def unpack(data):
    """The parts of a message, and what is wrong with it."""
    if len(data) < HEADER + 4:
        return None, "a message of %d bytes" % len(data)
    header, kind, schema, created, sequence, flags = struct.unpack(">I32sIQqQ", data[:64])
    payload_type, length = struct.unpack(">II", data[112:120])
    identity = uuid.UUID(bytes=data[72:80] + data[64:72])
    payload = data[header + 4:]
    wrong = [
        text for text, is_wrong in [
            ("header length %d" % header, header != HEADER), ("schema version %d" % schema, schema != 1), ("type %r" % kind, not kind.decode().rstrip(" ").isidentifier()),
            ("time %d" % created, abs(created / 1000 - time.time()) > 300), ("id %s" % identity, identity.version != 4), ("length %d of %d" % (length, len(payload)), length != len(payload)),
            ("digest", hashlib.sha256(payload).digest() != data[80:112]), ("%d bytes in a message" % len(payload), len(payload) > PAYLOAD_BYTES and payload_type == OUTPUT),
        ] if is_wrong
    ]
    message = {"kind": kind.decode().strip(" \0"), "sequence": sequence, "flags": flags, "id": str(identity), "type": payload_type, "payload": payload}
    return message, ", ".join(wrong)


# ---------------------------------------------------------------- WebSocket, RFC 6455

class Broken(Exception):
    pass


class Socket:
    def __init__(self, connection):
        self.connection, self.rest, self.lock = connection, b"", threading.Lock()

    def read(self, count):
        while len(self.rest) < count:
            some = self.connection.recv(65536)
            if not some:
                raise Broken()
            self.rest += some
        data, self.rest = self.rest[:count], self.rest[count:]
        return data

    def head(self):
        while b"\r\n\r\n" not in self.rest:
            some = self.connection.recv(65536)
            if not some:
                raise Broken()
            self.rest += some
        head, self.rest = self.rest.split(b"\r\n\r\n", 1)
        first, *lines = head.decode("latin1").split("\r\n")
        return first.split(" ")[1], {name.strip().lower(): value.strip() for name, value in (line.split(":", 1) for line in lines)}

    def answer(self, status, headers=(), body=b""):
        lines = ["HTTP/1.1 %s" % status, *(headers or ["content-length: %d" % len(body)])]
        self.connection.sendall(("\r\n".join(lines) + "\r\n\r\n").encode() + body)

    def send(self, data, opcode=2):
        size = len(data)
        length = bytes([size]) if size < 126 else b"\x7e" + struct.pack(">H", size) if size < 65536 else b"\x7f" + struct.pack(">Q", size)
        with self.lock:
            self.connection.sendall(bytes([0x80 | opcode]) + length + data)

    def receive(self):
        """One message: its opcode (1 text, 2 binary) and bytes."""
        whole, kind = b"", None
        while True:
            first, second = self.read(2)
            size = second & 0x7F
            if size == 126:
                size, = struct.unpack(">H", self.read(2))
            elif size == 127:
                size, = struct.unpack(">Q", self.read(8))
            if not second & 0x80:
                raise Broken()
            mask, data = self.read(4), self.read(size)
            data = bytes(byte ^ mask[index % 4] for index, byte in enumerate(data))
            opcode = first & 0x0F
            if opcode == 8:
                try:
                    self.send(data, 8)
                except OSError:
                    pass
                raise Broken()
            if opcode == 9:
                self.send(data, 10)
            elif opcode in (0, 1, 2):
                kind, whole = opcode or kind, whole + data
                if first & 0x80:
                    return kind, whole

    def cut(self):
        """As a network does: no close frame."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()


# ---------------------------------------------------------------- who may connect

SECRETS = {"test": "test"}


def signature_problem(path, headers, now=None):
    """SigV4 of the upgrade, checked with botocore, which Shipway does not use."""
    from botocore.auth import SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    parts = dict(item.strip().split("=", 1) for item in headers.get("authorization", "").replace("AWS4-HMAC-SHA256", "").split(",") if "=" in item)
    if not {"Credential", "SignedHeaders", "Signature"} <= parts.keys():
        return "not signed"
    key, date, region, service, _ = parts["Credential"].split("/")
    if service != "ssmmessages":
        return "signed for %s" % service
    signed = parts["SignedHeaders"].split(";")
    if not {"host", "x-amz-date"} <= set(signed):
        return "signs only %s" % signed
    if key not in SECRETS:
        return "unknown key %s" % key
    split = urlsplit(path)
    request = AWSRequest(method="GET", url="https://%s%s" % (headers["host"], split.path), params=parse_qsl(split.query), headers={name: headers[name] for name in signed if name != "host"})
    request.context["timestamp"] = headers["x-amz-date"]
    auth = SigV4Auth(Credentials(key, SECRETS[key], headers.get("x-amz-security-token")), service, region)
    wanted = auth.signature(auth.string_to_sign(request, auth.canonical_request(request)), request)
    return None if wanted == parts["Signature"] else "wrong signature"


# ---------------------------------------------------------------- the command

# What the agent gives every command.
OF_AGENT = {"TERM": "xterm-256color", "LANG": "C.UTF-8"}


def split(command):
    """As the agent in a container does: words of a shell, and no shell."""
    return shlex.split(command, comments=True)


class Terminal:
    """A command on a terminal of this machine."""

    def __init__(self, words, environment=None):
        self.master, slave = pty.openpty()

        def take_terminal():
            os.setsid()
            fcntl.ioctl(slave, termios.TIOCSCTTY, 0)

        try:
            self.process = subprocess.Popen(
                words, stdin=slave, stdout=slave, stderr=slave, preexec_fn=take_terminal, close_fds=True, cwd="/tmp",
                env={**(os.environ if environment is None else {"PATH": os.environ["PATH"], **environment}), **OF_AGENT},
            )
        except OSError as error:
            os.close(self.master)
            raise ValueError("Failed to start pty: %s" % error)
        finally:
            os.close(slave)

    def read(self, count):
        try:
            return os.read(self.master, count)
        except OSError:
            return b""

    def write(self, data):
        try:
            while data:
                data = data[os.write(self.master, data):]
        except OSError:
            pass

    def resize(self, rows, columns):
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def wait(self):
        self.process.wait()

    def kill(self):
        """As the agent ends a session: its command, and then its terminal, which hangs up on whoever is left."""
        self.process.kill()
        os.close(self.master)

    def sweep(self):
        """What a test leaves behind must not outlive it."""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except OSError:
            pass


def whole_characters(rest, data):
    """What the agent makes of output: characters of UTF-8 as far as they are complete, any other byte as it is. It loses two bytes of a U+FFFD: so does this."""
    data, out, at = rest + data, b"", 0
    if data.isascii():
        return data, b""
    while at < len(data):
        size = next((size for size in (1, 2, 3, 4) if is_character(data[at:at + size])), None)
        if size is None or data[at:at + size] == b"\xef\xbf\xbd":
            if len(data) - at < 4:
                break
            out += data[at:at + 1]
            at += size or 1
        else:
            out += data[at:at + size]
            at += size
    return out, data[at:]


def is_character(data):
    try:
        return len(data.decode()) == 1
    except UnicodeDecodeError:
        return False


# ---------------------------------------------------------------- a session

complaints = []
sessions = []


class Session:
    def __init__(self, sock, command, faults, start=Terminal):
        self.socket, self.command, self.faults, self.start = sock, command, dict(faults), start
        self.lock = threading.RLock()
        self.next_out, self.expected, self.early, self.unacknowledged = 0, 0, {}, {}
        self.held, self.printed = None, 0
        self.is_open = True
        self.answered, self.refused, self.terminal = threading.Event(), [], None
        sessions.append(self)

    def takes(self, fault):
        """Whether this is one of the first N of a fault."""
        with self.lock:
            left = self.faults.get(fault, 0)
            if left:
                self.faults[fault] = left - 1
            return bool(left)

    # -- out

    def transmit(self, data):
        if not self.is_open:
            return
        try:
            self.socket.send(data)
        except OSError:
            self.is_open = False

    def post(self, payload_type, payload):
        with self.lock:
            sequence = self.next_out
            self.next_out += 1
            data = pack("output_stream_data", sequence, FIRST if sequence == 0 else 0, payload_type, payload)
            self.unacknowledged[sequence] = [data, time.time()]
        if payload_type == OUTPUT and self.takes("lose_output"):
            return
        if payload_type == OUTPUT and self.takes("corrupt"):
            return self.transmit(data[:-1] + bytes([data[-1] ^ 1]))
        if payload_type == OUTPUT and self.faults.get("shuffle"):
            if self.held is None:
                self.held = data
                return
            self.transmit(data)
            data, self.held = self.held, None
        self.transmit(data)
        if payload_type == OUTPUT and self.faults.get("twice"):
            self.transmit(data)

    def resend(self):
        """Only the oldest, as the agent does."""
        while self.is_open:
            time.sleep(0.05)
            with self.lock:
                oldest = next(iter(self.unacknowledged.values()), None)
                is_due = oldest is not None and time.time() - oldest[1] > RESEND_SECONDS
                if is_due:
                    oldest[1] = time.time()
            if is_due:
                self.transmit(oldest[0])

    def acknowledge(self, message):
        if self.takes("lose_acks"):
            return
        content = {"AcknowledgedMessageType": message["kind"], "AcknowledgedMessageId": message["id"], "AcknowledgedMessageSequenceNumber": message["sequence"], "IsSequentialMessage": True}
        self.transmit(pack("acknowledge", 0, ALONE, 0, json.dumps(content).encode()))

    def close(self, output):
        """By the service, once the agent says that it is through."""
        content = {"MessageType": "channel_closed", "MessageId": str(uuid.uuid4()), "DestinationId": "", "SessionId": "", "SchemaVersion": 1, "CreatedDate": "", "Output": output}
        self.transmit(pack("channel_closed", 0, ALONE, 0, json.dumps(content).encode()))
        self.is_open = False

    # -- in

    def listen(self):
        try:
            while True:
                kind, data = self.socket.receive()
                if not self.faults.get("mute"):
                    self.hear(data)
        except (Broken, OSError):
            # The client is gone. The agent knows nothing of it: its command runs on.
            self.is_open = False

    def hear(self, data):
        message, wrong = unpack(data)
        if wrong:
            complaints.append(wrong)
            return
        if message["kind"] == "acknowledge":
            content = json.loads(message["payload"])
            if content["AcknowledgedMessageType"] != "output_stream_data" or content["IsSequentialMessage"] is not True or message["flags"] != ALONE:
                complaints.append("an acknowledgement of the wrong form: %s" % content)
            with self.lock:
                self.unacknowledged.pop(content["AcknowledgedMessageSequenceNumber"], None)
        elif message["kind"] == "input_stream_data":
            if message["type"] == OUTPUT and self.takes("lose_input"):
                return
            self.take_in_order(message)
        else:
            complaints.append("a message of type %s" % message["kind"])

    def take_in_order(self, message):
        # What was had before is dropped without a word, as the agent does.
        if message["sequence"] < self.expected:
            return
        if message["sequence"] > self.expected:
            self.early[message["sequence"]] = message
            return self.acknowledge(message)
        if not self.process_input(message):
            return
        self.acknowledge(message)
        self.expected += 1
        while self.expected in self.early:
            self.process_input(self.early.pop(self.expected))
            self.expected += 1

    def process_input(self, message):
        """@returns False when nobody can take it yet: it is not acknowledged, and comes again"""
        if message["type"] == HANDSHAKE_RESPONSE:
            response = json.loads(message["payload"])
            done = {one["ActionType"]: one["ActionStatus"] for one in response["ProcessedClientActions"]}
            if not isinstance(response.get("ClientVersion"), str) or not isinstance(response.get("Errors"), list) or "SessionType" not in done:
                complaints.append("a handshake response of the wrong form: %s" % response)
            self.refused = [name for name, status in done.items() if status != 1]
            self.answered.set()
            return True
        if not self.answered.is_set() and not self.faults.get("no_handshake"):
            complaints.append("input before the handshake was answered")
            return True
        if self.terminal is None:
            return False
        if message["type"] == SIZE:
            size = json.loads(message["payload"])
            self.terminal.resize(size["rows"], size["cols"])
        elif message["type"] == OUTPUT:
            self.terminal.write(message["payload"])
        else:
            complaints.append("a payload of type %d" % message["type"])
        return True

    # -- the whole

    def serve(self):
        threading.Thread(target=self.resend, daemon=True).start()
        threading.Thread(target=self.listen, daemon=True).start()
        if self.faults.get("mute"):
            return
        if not self.faults.get("no_handshake"):
            actions = [{"ActionType": "SessionType", "ActionParameters": {"SessionType": "InteractiveCommands", "Properties": {"linux": {"commands": self.command}}}}]
            if self.faults.get("encrypt"):
                actions.append({"ActionType": "KMSEncryption", "ActionParameters": {"KMSKeyId": "alias/sessions"}})
            self.post(HANDSHAKE_REQUEST, json.dumps({"AgentVersion": "3.3.2299.0", "RequestedClientActions": actions}).encode())
            if not self.answered.wait(HANDSHAKE_SECONDS):
                return self.close("Handshake timed out. Please ensure that you have the latest version of the session manager plugin.")
            if self.refused:
                return self.close("Encountered error while initiating handshake. %s failed on client" % ", ".join(self.refused))
            self.post(HANDSHAKE_COMPLETE, json.dumps({"HandshakeTimeToComplete": 1000000, "CustomerMessage": ""}).encode())
        try:
            self.terminal = self.start(split(self.command))
        except ValueError as error:
            return self.close("\n----------ERROR-------\nUnable to start command: %s\n" % error)
        time.sleep(FIRST_READ_SECONDS)
        self.print_all()
        self.terminal.wait()
        # The agent gives its last messages two seconds, and then closes whatever is out.
        ends = time.time() + 2
        while self.unacknowledged and self.is_open and time.time() < ends:
            time.sleep(0.01)
        self.close("")

    def print_all(self):
        rest = b""
        while True:
            data = self.terminal.read(PAYLOAD_BYTES)
            if not data:
                break
            out, rest = whole_characters(rest, data)
            if out:
                self.post(OUTPUT, out)
                self.printed += len(out)
            if self.printed >= self.faults.get("cut_after", float("inf")):
                self.is_open = False
                self.socket.cut()
                self.faults.pop("cut_after")
            if self.printed >= self.faults.get("close_after", float("inf")):
                self.close("Session was terminated by the service")
                return self.terminal.kill()
            time.sleep(0.001)
        if self.held is not None:
            self.transmit(self.held)
            self.held = None


def end_all():
    for session in sessions:
        if session.terminal is not None:
            session.terminal.sweep()


# ---------------------------------------------------------------- the service

def serve(port, session_of, check_signature=True):
    """`session_of(socket, channel id, token)` gives the session a token is for, or None. @returns the port"""
    server = socket.create_server(("127.0.0.1", port))

    def handle(connection):
        sock = Socket(connection)
        try:
            path, headers = sock.head()
            if path == "/complaints":
                return sock.answer("200 OK", (), json.dumps(complaints).encode())
            channel = urlsplit(path).path.removeprefix("/v1/data-channel/")
            problem = signature_problem(path, headers) if check_signature else None
            if problem:
                complaints.append(problem)
                return sock.answer("403 Forbidden", (), problem.encode())
            if channel.startswith("status-"):
                return sock.answer("%s Refused" % channel.removeprefix("status-"))
            accept = base64.b64encode(hashlib.sha1((headers["sec-websocket-key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()).decode()
            sock.answer("101 Switching Protocols", ["upgrade: websocket", "connection: Upgrade", "sec-websocket-accept: " + accept])
            kind, data = sock.receive()
            opening = json.loads(data)
            if kind != 1 or opening.get("MessageSchemaVersion") != "1.0" or not opening.get("RequestId") or not opening.get("ClientId") or not opening.get("ClientVersion"):
                complaints.append("an opening of the wrong form: %s" % opening)
            session = session_of(sock, channel, opening.get("TokenValue"))
            if session is None:
                sock.send(struct.pack(">H", 1008) + b"unknown token", 8)
                return
            session.serve()
            # The client closes after channel_closed; one that does not is left to itself.
            time.sleep(0.5)
        except (Broken, OSError):
            pass

    def accept():
        while True:
            connection, _ = server.accept()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=handle, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    return server.getsockname()[1]


if __name__ == "__main__":
    def by_token(sock, _, token):
        asked = json.loads(token)
        return Session(sock, asked["command"], asked.get("faults") or {})

    print(serve(int(sys.argv[1]), by_token), flush=True)
    # Ends with whoever started it.
    sys.stdin.read()
    end_all()
