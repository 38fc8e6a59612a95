"""Tasks whose containers are played: nothing runs, and what a task does is told by its image's tag, or its variable BEHAVE.

`broken` answers 500, `exits` ends with 1 at once, `crashes` is healthy until it gets traffic, `unpullable` cannot be pulled, `oom` is ended
for its memory; anything else is healthy after a few ticks. A command of the form `sh -c LINE` is played, not run: `echo TEXT`,
`sleep SECONDS`, `exit CODE`, joined by `;`.
"""
import threading
import time
import urllib.request

from moto.core.utils import utcnow

from account import NoSecret, definition_of, environment_of, ip_of, lock, log_group_problem, log_stream_of, put_log_lines
from targets import Target, groups, has_traffic, targets_of

# Without a load balancer ECS waits 40 s after RUNNING; here it is some ticks.
STEADY_TICKS = 8


def tag_of_image(container):
    told = next((one["value"] for one in container.get("environment") or [] if one["name"] == "BEHAVE"), None)
    return told or container["image"].split("@")[0].split(":")[-1]


def log(account, region, task, container, text):
    to = log_stream_of(task, container)
    if to is not None:
        put_log_lines(account, region, *to, [(int(time.time() * 1000), text)])


class Played:
    """With `registry`, an image by digest must be there."""

    def __init__(self, registry=None):
        self.registry = registry
        self.pulled = set()

    def step(self, account, region, backend, task):
        if task.status == "STOPPED":
            return
        task.ticks += 1
        container = definition_of(backend, task).container_definitions[0]
        if task.status in ("PROVISIONING", "PENDING"):
            if task.ticks == 1:
                task.status = "PENDING"
            else:
                self.start(account, region, task, container)
        elif task.service is not None:
            self.serve(account, region, task, container)

    def start(self, account, region, task, container):
        problem = self.start_problem(account, region, container)
        if problem:
            return self.stop(task, "TaskFailedToStart", problem, None)
        task.status = "RUNNING"
        task.started_at = utcnow()
        for one in task.containers:
            one.last_status = "RUNNING"
        if task.service is not None:
            log(account, region, task, container, "%s says hello" % container["name"])
        else:
            threading.Thread(target=self.play, args=(account, region, task, container), daemon=True).start()

    def serve(self, account, region, task, container):
        tag = tag_of_image(container)
        if tag == "exits":
            log(account, region, task, container, "cannot start: no configuration")
            return self.stop(task, "EssentialContainerExited", "Essential container in task exited", 1)
        if tag == "oom":
            return self.stop(task, "EssentialContainerExited", "Essential container in task exited", 137, "OutOfMemoryError: Container killed due to memory usage")
        for balancer in task.service.load_balancers:
            group = targets_of(balancer["targetGroupArn"])
            ip = ip_of(task)
            if ip not in group:
                group[ip] = Target(ip, balancer["containerPort"])
            elif tag == "broken":
                group[ip].say("unhealthy", "Target.ResponseCodeMismatch", "Health checks failed with these codes: [500]")
            else:
                group[ip].say("healthy")
            if tag == "crashes" and has_traffic(balancer["targetGroupArn"]):
                log(account, region, task, container, "fatal: out of luck")
                return self.stop(task, "EssentialContainerExited", "Essential container in task exited", 1)

    def stop(self, task, stop_code, reason, exit_code=0, container_reason=None):
        task.status = "STOPPED"
        task.desired_status = "STOPPED"
        task.stop_code = stop_code
        task.stopped_reason = reason
        task.stopped_at = utcnow()
        for container in task.containers:
            container.exitCode = exit_code
            container.last_status = "STOPPED"
            container.reason = container_reason
        for group in groups.values():
            group.pop(ip_of(task), None)

    def is_steady(self, task):
        return task.ticks >= STEADY_TICKS

    def sickness(self, service, task):
        return None

    def close(self):
        pass

    def start_problem(self, account, region, container):
        """What keeps a task from starting on Fargate: the image, a secret, a log group that is not there."""
        problem = log_group_problem(account, region, container)
        if problem:
            return problem
        try:
            environment_of(account, region, container)
        except NoSecret as missing:
            return "ResourceInitializationError: unable to pull secrets or registry auth: %s" % missing
        if tag_of_image(container) == "unpullable" or not self.can_pull(container["image"]):
            return "CannotPullContainerError: pull image manifest has been retried 1 time(s): failed to resolve ref %s: not found" % container["image"]
        return None

    def can_pull(self, image):
        """Asks the registry for the manifest, as a pull begins."""
        if self.registry is None or "@" not in image or image in self.pulled:
            return True
        name, digest = image.split("/", 1)[1].split("@")
        request = urllib.request.Request("%s/v2/%s/manifests/%s" % (self.registry, name, digest), method="HEAD", headers={"Accept": "application/vnd.docker.distribution.manifest.v2+json"})
        try:
            urllib.request.urlopen(request, timeout=5)
        except OSError:
            return False
        self.pulled.add(image)
        return True

    def play(self, account, region, task, container):
        """A one-off task: plays its few shell lines and ends with their exit code."""
        command = container.get("command") or []
        code = 0
        line = command[-1] if command else ""
        for name, value in environment_of(account, region, container).items():
            line = line.replace("$" + name, value)
        for part in line.split(";"):
            verb, _, rest = part.strip().partition(" ")
            if verb == "echo":
                with lock:
                    log(account, region, task, container, rest)
            elif verb == "exit":
                code = int(rest)
                break
            elif verb == "sleep":
                ends = time.time() + float(rest)
                while time.time() < ends and task.status != "STOPPED":
                    time.sleep(0.02)
        with lock:
            if task.status != "STOPPED":
                self.stop(task, "EssentialContainerExited", "Essential container in task exited", code)
