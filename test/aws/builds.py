"""CodeBuild for moto: a build that was started is really performed, on this machine.

moto itself keeps projects, ignores every override of StartBuild, and calls a build SUCCEEDED as soon as it is looked at. Here the source is fetched from moto's S3, the
buildspec's commands are run by a shell, their output goes to moto's CloudWatch, phases and status follow. All of that is OUR BELIEF about AWS, read in the API's
documentation and never seen on an account:

- a source of S3 whose location ends in a slash is the folder's objects, laid out in the directory where the commands run;
- a token is remembered for five minutes: the same request gives the same build, another one is refused;
- the log's stream is made while the machine is provided, its last lines may arrive after the build is over;
- a command that fails ends its phase with "Error while executing command: … Reason: exit status N";
- StopBuild kills what runs, at any time; builds are listed the newest first.

What a build's image is pushed to is REGISTRY; it is entered in moto's ECR too, and what is deleted there is deleted in the registry.
How a build behaves is told by its project's name: the time of `…-hasty` is over when the image's build has printed `begun`, `…-lossy` loses its machine as soon as the commands run, `…-broken` has none to give.
"""
import base64
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import urllib.request
import uuid

from moto.codebuild import models
from moto.codebuild import responses
from moto.codebuild.exceptions import InvalidInputException, ResourceNotFoundException
from moto.ecr import models as ecr
from moto.logs.models import logs_backends
from moto.s3.models import s3_backends

from account import lock

TOKEN_SECONDS = 300
# How long CodeBuild takes to provide a machine (some 20 s and more), and how late its log may arrive.
PROVISION_SECONDS = 0.1
LOG_LAG_SECONDS = 0.15
MANIFEST_TYPE = "application/vnd.docker.distribution.manifest.v2+json"

builds = {}
order = []
tokens = {}
stage = {}


def seconds():
    return time.time()


def has_begun(line):
    """Whether a record has the line `begun` among what the image's build printed: as text inside of BuildKit's own form, or in base64 of its own."""
    trace = line.partition(b'{"trace":"')[2].partition(b'"')[0]
    return b"begun\n" in base64.b64decode(trace) or base64.b64encode(b"begun\n") in line


class Build:
    def __init__(self, account, region, project, asked):
        self.account, self.region, self.project, self.asked = account, region, project, asked
        self.id = "%s:%s" % (project["name"], uuid.uuid4())
        self.started, self.ended = seconds(), None
        self.status, self.complete = "IN_PROGRESS", False
        self.phases = []
        self.process = None
        self.stopping = None
        self.stream = None
        self.ordinal = len(order) + 1

    def group(self):
        configured = (self.project.get("logsConfig") or {}).get("cloudWatchLogs") or {}
        return configured.get("groupName") or "/aws/codebuild/%s" % self.project["name"]

    def to_json(self):
        variables = (self.project.get("environment") or {}).get("environmentVariables") or []
        environment = {**(self.project.get("environment") or {}), "environmentVariables": variables + (self.asked.get("environmentVariablesOverride") or [])}
        return {
            "id": self.id,
            "arn": "arn:aws:codebuild:%s:%s:build/%s" % (self.region, self.account, self.id),
            "buildNumber": self.ordinal,
            "projectName": self.project["name"],
            "startTime": self.started,
            **({"endTime": self.ended} if self.ended else {}),
            "currentPhase": self.phases[-1]["phaseType"] if self.phases else "SUBMITTED",
            "buildStatus": self.status,
            "buildComplete": self.complete,
            "phases": self.phases,
            "timeoutInMinutes": self.project.get("timeoutInMinutes") or 60,
            "environment": environment,
            "logs": {"groupName": self.group(), "streamName": self.stream} if self.stream else {},
        }

    # ------------------------------------------------------------ what happens

    def enter(self, phase):
        with lock:
            self.leave("SUCCEEDED")
            self.phases.append({"phaseType": phase, "startTime": seconds(), **({"phaseStatus": "SUCCEEDED"} if phase == "COMPLETED" else {})})

    def leave(self, status, message=None):
        if self.phases and "phaseStatus" not in self.phases[-1]:
            last = self.phases[-1]
            last.update(phaseStatus=status, endTime=seconds(), durationInSeconds=int(seconds() - last["startTime"]))
            if message:
                last["contexts"] = [{"statusCode": "COMMAND_EXECUTION_ERROR", "message": message}]

    def end(self, status, message=None):
        with lock:
            self.leave(status, message)
            self.enter("COMPLETED")
            self.status, self.complete, self.ended = status, True, seconds()

    def log(self, lines):
        with lock:
            backend = logs_backends[self.account][self.region]
            if self.group() not in backend.groups:
                backend.create_log_group(self.group(), {})
            backend.ensure_log_stream(self.group(), self.stream)
            backend.put_log_events(self.group(), self.stream, [{"timestamp": int(at * 1000), "message": text + "\n"} for at, text in lines])

    def perform(self):
        directory = tempfile.mkdtemp(prefix="shipway-codebuild-")
        try:
            for phase in ("SUBMITTED", "QUEUED", "PROVISIONING"):
                self.enter(phase)
            time.sleep(PROVISION_SECONDS)
            if self.project["name"].endswith("-broken"):
                return self.end("FAULT", "Build container found dead before completing the build.")
            self.stream = self.id.split(":")[1]
            self.enter("DOWNLOAD_SOURCE")
            problem = self.fetch(directory)
            if problem:
                return self.end("FAILED", problem)
            for phase in ("INSTALL", "PRE_BUILD", "BUILD"):
                self.enter(phase)
            self.log([(seconds(), "[Container] Entering phase BUILD")])
            spec = json.loads(self.asked["buildspecOverride"])
            failed = self.run(spec["phases"]["build"]["commands"], directory)
            self.clean(directory)
            if self.stopping:
                return self.end(self.stopping)
            if failed:
                return self.end("FAILED", failed)
            for phase in ("POST_BUILD", "UPLOAD_ARTIFACTS", "FINALIZING"):
                self.enter(phase)
            self.end("SUCCEEDED")
        except Exception:
            traceback.print_exc()
            self.end("FAULT", "Internal Service Error")
        finally:
            shutil.rmtree(directory, ignore_errors=True)

    def fetch(self, directory):
        bucket, _, prefix = self.asked["sourceLocationOverride"].partition("/")
        with lock:
            found = s3_backends[self.account]["aws"].buckets.get(bucket)
            objects = {key.name: key.value for key in found.keys.values() if key.name.startswith(prefix)} if found else {}
        if not objects or not prefix.endswith("/"):
            return "NoSuchKey: The specified key does not exist. status code: 404 for primary source"
        for name, value in objects.items():
            path = os.path.join(directory, name[len(prefix) :])
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "wb") as file:
                file.write(value)
        return None

    def run(self, commands, directory):
        limit = seconds() + 60 * (self.project.get("timeoutInMinutes") or 60)
        environment = {
            # The interpreter's own folder first: a shim in front of it takes longer than the command itself.
            "PATH": os.path.dirname(sys.executable) + os.pathsep + os.environ["PATH"], "HOME": directory, "CODEBUILD_BUILD_ID": self.id, "CODEBUILD_SRC_DIR": directory,
            "AWS_REGION": self.region, "AWS_DEFAULT_REGION": self.region, "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_ENDPOINT_URL": stage["endpoint"],
            # A developer's plug-ins of the docker command are there, as they are on CodeBuild's machines.
            **{name: os.environ[name] for name in ("DOCKER_CONFIG", "DOCKER_HOST") if name in os.environ},
            **{one["name"]: one["value"] for one in self.asked.get("environmentVariablesOverride") or []},
        }
        for command in commands:
            with lock:
                if self.stopping:
                    return None
                self.process = subprocess.Popen(["sh", "-c", command], cwd=directory, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)
            timer = threading.Timer(max(0, limit - seconds()), self.kill, ["TIMED_OUT"])
            timer.start()
            self.forward(self.process.stdout)
            code = self.process.wait()
            timer.cancel()
            if code != 0 and not self.stopping:
                return "Error while executing command: %s. Reason: exit status %d" % (command, code if code >= 0 else 128 - code)
        return None

    def forward(self, output):
        """Lines reach CloudWatch in batches and some time after they were printed."""
        pending, done = [], threading.Event()

        def send():
            while not done.is_set() or pending:
                done.wait(LOG_LAG_SECONDS)
                with lock:
                    batch = pending[:]
                    del pending[: len(batch)]
                if batch:
                    self.log(batch)

        sender = threading.Thread(target=send, daemon=True)
        sender.start()
        for line in iter(output.readline, b""):
            with lock:
                pending.append((seconds(), line.decode("utf-8", "replace").rstrip("\n")))
            if self.project["name"].endswith("-lossy"):
                os.killpg(self.process.pid, signal.SIGKILL)
            if self.project["name"].endswith("-hasty") and has_begun(line):
                self.kill("TIMED_OUT")
        done.set()
        sender.join()

    def kill(self, status):
        with lock:
            if self.complete or self.stopping:
                return
            self.stopping = status
            if self.process:
                try:
                    os.killpg(self.process.pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass

    def clean(self, directory):
        """The machine is thrown away, so its engine must not keep the image; what arrived in the registry is in ECR from now on."""
        with open(os.path.join(directory, "job.json"), encoding="utf-8") as file:
            image = json.load(file)["image"]
        subprocess.run(["docker", "rmi", "--force", image], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        repository, _, tag = image.split("/", 1)[1].rpartition(":")
        request = urllib.request.Request("%s/v2/%s/manifests/%s" % (stage["registry"], repository, tag), headers={"Accept": MANIFEST_TYPE})
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                manifest, digest = answer.read().decode(), answer.headers["Docker-Content-Digest"]
        except OSError:
            return
        with lock:
            ecr.ecr_backends[self.account][self.region].put_image(repository, manifest, tag, MANIFEST_TYPE, digest)


# ---------------------------------------------------------------- the API


def start_build(self):
    with lock:
        asked = json.loads(self.body)
        project = self.codebuild_backend.codebuild_projects.get(asked["projectName"])
        if project is None:
            raise ResourceNotFoundException("Project cannot be found: arn:aws:codebuild:%s:%s:project/%s" % (self.region, self.current_account, asked["projectName"]))
        if asked.get("sourceTypeOverride", project.project_metadata["source"]["type"]) != "S3":
            raise InvalidInputException("Invalid source: this stand-in knows sources of S3")
        token, same = asked.get("idempotencyToken"), json.dumps(asked, sort_keys=True)
        known = tokens.get(token)
        if token and known and seconds() - known[0] < TOKEN_SECONDS:
            if known[1] != same:
                raise InvalidInputException("Idempotency token was used with other parameters")
            return json.dumps({"build": builds[known[2]].to_json()})
        build = Build(self.current_account, self.region, project.project_metadata, asked)
        builds[build.id] = build
        order.insert(0, build.id)
        tokens[token] = (seconds(), same, build.id)
        threading.Thread(target=build.perform, daemon=True).start()
        return json.dumps({"build": build.to_json()})


def batch_get_builds(self):
    with lock:
        ids = self._get_param("ids")
        if len(ids) > 100:
            raise InvalidInputException("Invalid input: more than 100 ids")
        found = [builds[one].to_json() for one in ids if one in builds]
        return json.dumps({"builds": found, "buildsNotFound": [one for one in ids if one not in builds]})


def list_builds_for_project(self):
    with lock:
        own = [one for one in order if builds[one].project["name"] == self._get_param("projectName")]
        begin = int(self._get_param("nextToken") or 0)
        more = {"nextToken": str(begin + 100)} if len(own) > begin + 100 else {}
        return json.dumps({"ids": own[begin : begin + 100], **more})


def stop_build(self):
    with lock:
        build = builds.get(self._get_param("id"))
        if build is None:
            raise ResourceNotFoundException("Build %s does not exist" % self._get_param("id"))
        build.kill("STOPPED")
        return json.dumps({"build": build.to_json()})


_delete_images = ecr.ECRBackend.batch_delete_image


def batch_delete_image(self, repository_name, registry_id=None, image_ids=None):
    answer = _delete_images(self, repository_name, registry_id, image_ids)
    for gone in answer.get("imageIds", []):
        request = urllib.request.Request("%s/v2/%s/manifests/%s" % (stage["registry"], repository_name, gone.image_digest), method="DELETE")
        urllib.request.urlopen(request, timeout=10).close()
    return answer


def play(endpoint, registry):
    """Puts this in moto's place."""
    stage.update(endpoint=endpoint, registry=registry)
    for own in (start_build, batch_get_builds, list_builds_for_project, stop_build):
        setattr(responses.CodeBuildResponse, own.__name__, own)
    ecr.ECRBackend.batch_delete_image = batch_delete_image


def close():
    for build in builds.values():
        build.kill("STOPPED")
