"""Builds one image where AWS CodeBuild runs it, and tells Shipway how it goes.

Reads job.json and context.tar.gz beside this file. Nothing of them is ever part of a shell command: programs get lists of arguments.

    {"image": "HOST/REPOSITORY:TAG", "dockerfile": "Dockerfile", "target": "runtime" or null, "args": {"NAME": "any text"},
     "labels": {"name": "value"}, "cache": "HOST/REPOSITORY:TAG" or null, "login": {"host": "HOST", "region": "eu-central-1"} or null}

What it prints is for Shipway (build-log.ts), a record a line, of ASCII alone:

    shipway NUMBER PIECE/PIECES TEXT

NUMBER counts from 1, so that a record that is lost or late is noticed; TEXT is JSON, cut into pieces since logs bound the length of a line:
{"say"} a remark; {"status"} what buildx reported, {"trace"} what an engine without buildx did; {"end"} the last one, with "error" and "at"
("setup", "build" or "push") where it did not go well. Its exit code is 0 or 1 by that.

Python 3.8 and its standard library; `docker` with buildx, or the engine alone; `aws` where there is something to sign in to.
SHIPWAY_BUILDKIT_IMAGE, a variable of the CodeBuild project, names another image of BuildKit than the one of Docker Hub.
"""
import base64
import http.client
import json
import os
import socket
import subprocess
import sys
import time
import urllib.parse

HERE = os.path.dirname(os.path.abspath(__file__))
CONTEXT = os.path.join(HERE, "context.tar.gz")
PIECE = 6000
BUILDER = "shipway"


class Stopped(Exception):
    """The image was not made or did not arrive; `at` says what was being done."""

    def __init__(self, at, error):
        super().__init__(error)
        self.at = at


records = 0


def tell(record):
    global records
    records += 1
    text = json.dumps(record, ensure_ascii=True, separators=(",", ":"))
    pieces = [text[index : index + PIECE] for index in range(0, len(text), PIECE)]
    for index, piece in enumerate(pieces):
        print("shipway %d %d/%d %s" % (records, index + 1, len(pieces), piece), flush=True)


def say(text):
    tell({"say": text, "time": int(time.time() * 1000)})


def run(command, **options):
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)


def last_lines(output, count=8):
    return "\n".join(output.decode("utf-8", "replace").strip().splitlines()[-count:])


# ---------------------------------------------------------------- signing in


def password_for(login):
    """A password of Amazon ECR, good for 12 hours; the user is always AWS."""
    if login is None:
        return None
    try:
        asked = run(["aws", "ecr", "get-login-password", "--region", login["region"]])
    except OSError as problem:
        raise Stopped("setup", "the AWS command line, which signs in to Amazon ECR, is not in the build's image: %s" % problem)
    if asked.returncode != 0:
        raise Stopped("setup", "signing in to Amazon ECR failed: %s" % last_lines(asked.stderr))
    return asked.stdout.decode().strip()


def sign_in(login, password):
    if password is None:
        return
    done = run(["docker", "login", "--username", "AWS", "--password-stdin", login["host"]], input=password.encode())
    if done.returncode != 0:
        raise Stopped("setup", "signing in to %s failed: %s" % (login["host"], last_lines(done.stderr)))


# ---------------------------------------------------------------- with buildx


def has_buildx():
    try:
        return run(["docker", "buildx", "version"]).returncode == 0
    except OSError:
        return False


def make_builder():
    """A BuildKit of its own, since the engine's cannot export a cache with all stages. Where its image cannot be had, the build does without."""
    image = os.environ.get("SHIPWAY_BUILDKIT_IMAGE")
    options = ["--driver-opt", "image=%s" % image] if image else []
    made = run(["docker", "buildx", "create", "--name", BUILDER, "--driver", "docker-container", *options, "--bootstrap"])
    if made.returncode == 0:
        return True
    run(["docker", "buildx", "rm", "--force", BUILDER])
    say("the layers of earlier builds are not used: BuildKit could not be started in a container (%s)" % last_lines(made.stderr, 1))
    return False


def build_command(job, own_builder):
    command = ["docker", "buildx", "build", "--progress=rawjson", "--provenance=false", "--sbom=false", "--file", job["dockerfile"]]
    for name, value in job["args"].items():
        command += ["--build-arg", "%s=%s" % (name, value)]
    for name, value in job["labels"].items():
        command += ["--label", "%s=%s" % (name, value)]
    if job["target"] is not None:
        command += ["--target", job["target"]]
    if own_builder:
        cache = "type=registry,ref=%s" % job["cache"]
        # ECR takes a cache only as an image of the OCI's form. A cache that cannot be written must not fail a build that went well.
        kept = "mode=max,image-manifest=true,oci-mediatypes=true,ignore-error=true"
        command += ["--builder", BUILDER, "--cache-from", cache, "--cache-to", "%s,%s" % (cache, kept)]
        command += ["--output", "type=image,name=%s,push=true" % job["image"]]
    else:
        command += ["--load", "--tag", job["image"]]
    return command + ["-"]


def status_of(event):
    """What Shipway shows of a BuildKit status; the progress of every layer's bytes is most of it, and is left out."""
    vertexes = [{key: vertex[key] for key in ("digest", "name", "started", "completed", "cached", "error") if key in vertex} for vertex in event.get("vertexes") or []]
    logs = [{key: line[key] for key in ("vertex", "stream", "data", "timestamp") if key in line} for line in event.get("logs") or []]
    return {key: value for key, value in (("vertexes", vertexes), ("logs", logs)) if value}


def read_progress(stream):
    """Yields BuildKit's statuses as they come, and text between them as it stands: some versions indent their JSON, others write a line each."""
    decoder, buffer = json.JSONDecoder(), ""
    for line in iter(stream.readline, b""):
        buffer += line.decode("utf-8", "replace")
        while buffer.strip():
            buffer = buffer.lstrip()
            if not buffer.startswith("{"):
                text, _, buffer = buffer.partition("\n")
                yield text
                continue
            try:
                event, end = decoder.raw_decode(buffer)
            except ValueError:
                break
            buffer = buffer[end:]
            yield event
    if buffer.strip():
        yield buffer.strip()


def what_failed(error):
    if "failed to push" in error:
        return "push"
    return "setup" if "Cannot connect to the Docker daemon" in error else "build"


def build_with_buildx(job):
    own_builder = job["cache"] is not None and make_builder()
    said = []
    with open(CONTEXT, "rb") as context:
        building = subprocess.Popen(build_command(job, own_builder), stdin=context, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        for event in read_progress(building.stderr):
            if isinstance(event, str):
                said.append(event)
            elif status_of(event):
                tell({"status": status_of(event)})
        code = building.wait()
    if code != 0:
        errors = [index for index, text in enumerate(said) if text.startswith("ERROR: ")]
        error = "\n".join(said[errors[-1] :])[len("ERROR: ") :] if errors else "\n".join(said[-8:]) or "docker buildx ended with %d" % code
        raise Stopped(what_failed(error), error)
    if not own_builder:
        pushed = run(["docker", "push", job["image"]])
        if pushed.returncode != 0:
            raise Stopped("push", last_lines(pushed.stderr))


# ---------------------------------------------------------------- with the engine alone


class Engine(http.client.HTTPConnection):
    """Docker Engine's API on its socket."""

    def __init__(self):
        super().__init__("docker", timeout=None)

    def connect(self):
        address = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
        if not address.startswith("unix://"):
            raise Stopped("setup", "without buildx the Docker Engine must be on a socket, and DOCKER_HOST is %s" % address)
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.connect(address[len("unix://") :])


def ask_engine(path, query, body=None, headers=None):
    """Yields the messages of an answer. What the engine says went wrong is a message too."""
    engine = Engine()
    engine.request("POST", "%s?%s" % (path, urllib.parse.urlencode(query)), body=body, headers=headers or {})
    answer = engine.getresponse()
    if answer.status >= 300:
        yield {"error": answer.read().decode("utf-8", "replace")}
        return
    for line in iter(answer.readline, b""):
        if line.strip():
            yield json.loads(line)
    engine.close()


def to_header(value):
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode()


def build_with_engine(job, password):
    query = {
        # BuildKit; so since Docker Engine 18.09.
        "version": "2",
        "t": job["image"],
        "dockerfile": job["dockerfile"],
        "buildargs": json.dumps(job["args"]),
        "labels": json.dumps(job["labels"]),
    }
    if job["target"] is not None:
        query["target"] = job["target"]
    headers = {"Content-Type": "application/x-tar", "Content-Length": str(os.path.getsize(CONTEXT))}
    error = None
    with open(CONTEXT, "rb") as context:
        for message in ask_engine("/build", query, context, headers):
            if message.get("id") == "moby.buildkit.trace" and isinstance(message.get("aux"), str):
                tell({"trace": message["aux"]})
            error = message.get("error", error)
    if error is not None:
        raise Stopped("build", error)
    push_with_engine(job, password)


def push_with_engine(job, password):
    repository, _, tag = job["image"].rpartition(":")
    login = {} if password is None else {"username": "AWS", "password": password, "serveraddress": job["login"]["host"]}
    path = "/images/%s/push" % urllib.parse.quote(repository)
    error = None
    for message in ask_engine(path, {"tag": tag}, headers={"X-Registry-Auth": to_header(login), "Content-Length": "0"}):
        error = message.get("error", error)
    if error is not None:
        raise Stopped("push", error)


# ---------------------------------------------------------------- the whole of it


def build():
    with open(os.path.join(HERE, "job.json"), encoding="utf-8") as file:
        job = json.load(file)
    password = password_for(job["login"])
    if has_buildx():
        sign_in(job["login"], password)
        build_with_buildx(job)
    else:
        say("this machine has no buildx: Docker Engine builds by itself, without the layers of earlier builds")
        build_with_engine(job, password)


def main():
    try:
        build()
    except Stopped as stopped:
        tell({"end": {"at": stopped.at, "error": str(stopped)}})
        return 1
    except Exception as problem:
        tell({"end": {"at": "setup", "error": "%s: %s" % (type(problem).__name__, problem)}})
        return 1
    tell({"end": {}})
    return 0


if __name__ == "__main__":
    sys.exit(main())
