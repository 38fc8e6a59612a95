"""One task on the Docker Engine, from PROVISIONING to STOPPED: the part of Fargate that starts, watches and stops its containers."""
import queue
import threading
import time
import traceback
from datetime import datetime

from moto.core.utils import utcnow

from account import NoSecret, definition_of, environment_of, lock, log_group_problem, log_stream_of
from containers import container_body, merged, pause_body, stop_timeout_of, volume_of
from engine import EngineError
from health import deregister, is_registered, register

# How often a check's result is asked of the engine.
CHECK_LOOK_SECONDS = 0.25


class Part:
    """A container of a task: what it is told to be, what DescribeTasks shows of it, and how far it is (waiting, running, ended or never)."""

    def __init__(self, told, seen):
        self.told, self.seen = told, seen
        self.name = told["name"]
        self.essential = told.get("essential", True)
        self.docker_id = None
        self.state = "waiting"
        self.started_at = None
        self.is_stopping = False
        self.log_thread = None

    @property
    def needs(self):
        return [(one["containerName"], one["condition"]) for one in self.told.get("dependsOn") or []]


class Agent(threading.Thread):
    def __init__(self, fargate, account, region, backend, task):
        super().__init__(daemon=True)
        self.fargate, self.engine, self.account, self.region, self.task = fargate, fargate.engine, account, region, task
        self.definition = definition_of(backend, task)
        told = merged(self.definition, task.overrides)
        self.parts = {one["name"]: Part(one, seen) for one, seen in zip(told, task.containers)}
        self.news = queue.Queue()
        self.pause = None
        self.volumes = []
        self.environments = {}

    def run(self):
        try:
            self.say("PENDING")
            problem = self.prepare()
            if problem:
                self.fail(problem)
            else:
                self.attend()
        except Exception as error:
            if not self.abandoned:
                traceback.print_exc()
            self.fail("the stand-in for Fargate failed: %s" % error)
        finally:
            self.finish()

    def say(self, status):
        with lock:
            self.task.status = status

    def fail(self, reason):
        with lock:
            self.fargate.stop(self.task, "TaskFailedToStart", reason)

    @property
    def is_ending(self):
        return self.task.desired_status == "STOPPED" or self.abandoned

    @property
    def abandoned(self):
        return self.fargate.gate.is_closed

    def is_checked(self):
        return any(part.told.get("healthCheck") for part in self.parts.values() if part.essential)

    # -- before the containers

    def prepare(self):
        """What keeps the task from starting, if anything: a log group, a secret, an image."""
        with lock:
            for part in self.parts.values():
                problem = log_group_problem(self.account, self.region, part.told)
                if problem:
                    return problem
                try:
                    self.environments[part.name] = environment_of(self.account, self.region, part.told)
                except NoSecret as missing:
                    return "ResourceInitializationError: unable to pull secrets or registry auth: execution resource retrieval failed: %s" % missing
        for image in {part.told["image"] for part in self.parts.values()}:
            try:
                self.fetch(image)
            except EngineError as error:
                return "CannotPullContainerError: pull image manifest has been retried 1 time(s): failed to resolve ref %s: %s" % (image, error)
        if not self.is_ending:
            self.lay_ground()
        return None

    def fetch(self, image):
        image = self.fargate.local_name(image)
        first = image.split("/")[0]
        if "/" in image and ("." in first or ":" in first or first == "localhost"):
            self.engine.pull(image)
        else:
            self.engine.call("GET", "/images/%s/json" % image)

    def lay_ground(self):
        """The network namespace with the task's address, and its volumes."""
        for volume in self.definition.volumes or []:
            name = volume_of(self.fargate, self.task, volume["name"])
            with self.fargate.gate:
                self.engine.call("POST", "/volumes/create", {"Name": name, "Labels": self.fargate.labels})
            self.volumes.append(name)
        with self.fargate.gate:
            self.pause = self.create("pause", pause_body(self.fargate, self.task))
            self.engine.call("POST", "/containers/%s/start" % self.pause)
        seen = self.engine.call("GET", "/containers/%s/json" % self.pause)
        ip = seen["NetworkSettings"]["Networks"][self.fargate.name]["IPAddress"]
        with lock:
            attachment = self.task.attachments[0]
            for detail in attachment["details"]:
                if detail["name"] == "privateIPv4Address":
                    detail["value"] = ip
            for part in self.parts.values():
                part.seen.network_interfaces = [{"attachmentId": attachment["id"], "privateIpv4Address": ip}]

    def create(self, name, body):
        name = "%s-%s-%s" % (self.fargate.name, self.task.id.split("-")[0], name)
        return self.engine.call("POST", "/containers/create", body, name=name)["Id"]

    # -- while they run

    def attend(self):
        while True:
            if not self.is_ending:
                self.start_ready()
            if not self.is_ending:
                self.tell_running()
            if self.is_ending:
                self.leave_balancer()
                self.stop_ready()
                if all(part.state in ("ended", "never") for part in self.parts.values()):
                    return
            self.take_news()

    def take_news(self):
        """Waits until something happened: a container ended, a stop was asked for, or it is time to look at checks again."""
        looks = any(part.state == "running" and part.told.get("healthCheck") for part in self.parts.values())
        waits = any(part.state == "waiting" for part in self.parts.values())
        try:
            self.news.get(timeout=CHECK_LOOK_SECONDS if looks or waits else None)
        except queue.Empty:
            pass
        for part in self.parts.values():
            if part.state == "running" and part.told.get("healthCheck"):
                self.look_at_health(part)

    def start_ready(self):
        for part in self.parts.values():
            if part.state == "waiting" and not self.is_ending:
                blocked = self.blocked_by(part)
                if blocked is None:
                    self.start_part(part)

    def blocked_by(self, part):
        """The dependency that `part` still waits for. One that will never be met ends the task."""
        for name, condition in part.needs:
            other = self.parts[name]
            if not self.is_met(other, condition):
                problem = self.never_met(other, condition)
                if problem:
                    self.fail_part(part, "dependency graph: failed to resolve container ordering dependency [%s] for target [%s] as dependency %s." % (name, part.name, problem))
                return name
        return None

    def is_met(self, other, condition):
        if condition == "START":
            return other.state in ("running", "ended")
        if condition == "HEALTHY":
            return other.state == "running" and other.seen.health_status == "HEALTHY"
        return other.state == "ended" and (condition == "COMPLETE" or other.seen.exitCode == 0)

    def never_met(self, other, condition):
        if other.state == "running" and time.monotonic() - other.started_at > (other.told.get("startTimeout") or float("inf")):
            return "timed out"
        if other.state in ("ended", "never"):
            return "did not exit successfully" if condition == "SUCCESS" else "will never get there"
        return None

    def fail_part(self, part, reason):
        part.state = "never"
        with lock:
            part.seen.last_status, part.seen.reason = "STOPPED", reason
        self.fail("Task failed to start")

    def start_part(self, part):
        try:
            with self.fargate.gate:
                part.docker_id = self.create(part.name, container_body(self, part))
                self.engine.call("POST", "/containers/%s/start" % part.docker_id)
        except EngineError as error:
            return self.fail_part(part, "CannotStartContainerError: Error response from daemon: %s" % error)
        part.state, part.started_at = "running", time.monotonic()
        with lock:
            part.seen.last_status, part.seen.runtime_id = "RUNNING", part.docker_id
        part.log_thread = threading.Thread(target=self.follow, args=(part,), daemon=True)
        part.log_thread.start()
        threading.Thread(target=self.await_exit, args=(part,), daemon=True).start()

    def tell_running(self):
        """RUNNING is a task all of whose containers were started; it gets its targets just before."""
        if self.task.status != "PENDING" or any(part.state == "waiting" for part in self.parts.values()):
            return
        with lock:
            self.task.status = "ACTIVATING"
            register(self.task, self.fargate.pace)
            self.task.status, self.task.started_at = "RUNNING", utcnow()

    def look_at_health(self, part):
        seen = self.engine.attempt("GET", "/containers/%s/json" % part.docker_id)
        status = ((seen or {}).get("State", {}).get("Health") or {}).get("Status")
        told = {"healthy": "HEALTHY", "unhealthy": "UNHEALTHY"}.get(status, "UNKNOWN")
        with lock:
            part.seen.health_status = told
            states = {one.seen.health_status for one in self.parts.values() if one.essential and one.told.get("healthCheck")}
            self.task.health_status = "UNHEALTHY" if "UNHEALTHY" in states else "HEALTHY" if states == {"HEALTHY"} else "UNKNOWN"

    # -- how they end

    def await_exit(self, part):
        try:
            self.engine.call("POST", "/containers/%s/wait" % part.docker_id)
            state = self.engine.call("GET", "/containers/%s/json" % part.docker_id)["State"]
        except (EngineError, OSError):
            state = {"ExitCode": 137, "OOMKilled": False}
        with lock:
            part.state = "ended"
            part.seen.last_status, part.seen.exitCode = "STOPPED", state["ExitCode"]
            if state["OOMKilled"]:
                part.seen.reason = "OutOfMemoryError: Container killed due to memory usage"
            if part.essential:
                self.fargate.stop(self.task, "EssentialContainerExited", "Essential container in task exited")
        self.news.put(("ended", part.name))

    def leave_balancer(self):
        """Targets of a task that is stopped in order are drained before its containers are told; one that died is just taken out."""
        if self.task.status != "RUNNING":
            return
        with lock:
            deregister(self.task, self.fargate.pace)
            self.task.status = "DEACTIVATING"
        if all(part.state == "running" for part in self.parts.values() if part.essential):
            while is_registered(self.task) and not self.abandoned:
                time.sleep(0.05)

    def stop_ready(self):
        """Stops what nothing that still runs depends on: the reverse of how they started."""
        self.say("STOPPING")
        for part in self.parts.values():
            if part.state == "waiting":
                part.state = "never"
                part.seen.last_status = "STOPPED"
            dependents = [one for one in self.parts.values() if any(name == part.name for name, _ in one.needs)]
            if part.state == "running" and not part.is_stopping and all(one.state != "running" for one in dependents):
                part.is_stopping = True
                threading.Thread(target=self.stop_part, args=(part,), daemon=True).start()

    def stop_part(self, part):
        self.engine.attempt("POST", "/containers/%s/stop" % part.docker_id, t=stop_timeout_of(part.told))

    def finish(self):
        self.say("DEPROVISIONING")
        for part in self.parts.values():
            if part.log_thread is not None:
                part.log_thread.join(timeout=30)
        for one in [part.docker_id for part in self.parts.values()] + [self.pause]:
            if one is not None:
                self.engine.attempt("DELETE", "/containers/%s" % one, force=1, v=1)
        for volume in self.volumes:
            self.engine.attempt("DELETE", "/volumes/%s" % volume, force=1)
        with lock:
            for part in self.parts.values():
                part.seen.last_status = "STOPPED"
            self.task.status, self.task.stopped_at = "STOPPED", utcnow()

    # -- what they say

    def follow(self, part):
        """Lines with the engine's times. It cuts a line at 16 KiB into entries without an end; awslogs joins them again."""
        to = log_stream_of(self.task, part.told)
        unfinished = {}
        try:
            for stream, frame in self.engine.log_frames(part.docker_id):
                at, _, text = frame.partition(b" ")
                begun = unfinished.pop(stream, (at, b""))
                whole = (begun[0], begun[1] + text)
                if not text.endswith(b"\n"):
                    unfinished[stream] = whole
                elif to is not None:
                    self.write(to, *whole)
        except (EngineError, OSError):
            pass  # the container is gone
        for whole in unfinished.values():
            if to is not None:
                self.write(to, *whole)

    def write(self, to, at, text):
        # Docker writes nanoseconds and Z; strptime knows neither.
        moment = datetime.fromisoformat(at.decode().rstrip("Z")[:26] + "+00:00")
        self.fargate.write_line((self.account, self.region) + to, int(moment.timestamp() * 1000), text.decode(errors="replace").rstrip("\r\n"))
