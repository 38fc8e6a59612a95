"""The Docker Engine's API over its Unix socket, as far as tasks need it."""
import http.client
import json
import socket
import threading
from urllib.parse import quote, urlencode


class EngineError(Exception):
    def __init__(self, status, message):
        super().__init__(message)
        self.status = status


class Gate:
    """Lets work through until it is closed; closing waits for what is inside."""

    def __init__(self):
        self.changed = threading.Condition()
        self.inside = 0
        self.is_closed = False

    def __enter__(self):
        with self.changed:
            if self.is_closed:
                raise EngineError(0, "the stage is closed")
            self.inside += 1

    def __exit__(self, *_):
        with self.changed:
            self.inside -= 1
            self.changed.notify_all()

    def close(self, within_seconds):
        with self.changed:
            self.is_closed = True
            self.changed.wait_for(lambda: self.inside == 0, within_seconds)


class _Connection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost")
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.connect(self.path)


class Engine:
    def __init__(self, socket_path):
        self.socket_path = socket_path

    def open(self, method, path, body=None, **query):
        """The response, unread; the caller closes it."""
        connection = _Connection(self.socket_path)
        told = {name: json.dumps(value) if isinstance(value, (dict, bool)) else value for name, value in query.items()}
        connection.request(
            method, "/v1.41%s?%s" % (quote(path), urlencode(told)),
            None if body is None else json.dumps(body), {"Content-Type": "application/json"},
        )
        response = connection.getresponse()
        if response.status >= 400:
            text = response.read().decode()
            connection.close()
            try:
                text = json.loads(text)["message"]
            except ValueError:
                pass
            raise EngineError(response.status, text)
        response.connection = connection  # else it is closed under the response
        return response

    def call(self, method, path, body=None, **query):
        response = self.open(method, path, body, **query)
        try:
            text = response.read()
            return json.loads(text) if text.strip() else None
        finally:
            response.connection.close()

    def attempt(self, method, path, body=None, **query):
        """As `call`; what is not there, or is so already, is no error."""
        try:
            return self.call(method, path, body, **query)
        except EngineError as error:
            if error.status not in (304, 404, 409):
                raise
            return None

    def pull(self, image):
        response = self.open("POST", "/images/create", fromImage=image, **({} if "@" in image or ":" in image.split("/")[-1] else {"tag": "latest"}))
        try:
            for line in response:
                said = json.loads(line)
                if "error" in said:
                    raise EngineError(500, said["error"])
        finally:
            response.connection.close()

    def put_archive(self, container, tar):
        """Unpacks a tar archive in a container, its volumes included, before it is started."""
        connection = _Connection(self.socket_path)
        connection.request("PUT", "/v1.41/containers/%s/archive?path=/" % container, tar, {"Content-Type": "application/x-tar"})
        response = connection.getresponse()
        text = response.read().decode()
        connection.close()
        if response.status >= 400:
            raise EngineError(response.status, text)

    def log_frames(self, container):
        """(stream, bytes) as they are written, to the end of the container."""
        response = self.open("GET", "/containers/%s/logs" % container, follow=1, stdout=1, stderr=1, timestamps=1)
        try:
            while True:
                head = response.read(8)
                if len(head) < 8:
                    return
                yield head[0], response.read(int.from_bytes(head[4:8], "big"))
        finally:
            response.connection.close()
