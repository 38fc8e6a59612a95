"""Tasks as real containers of a Docker Engine: what Fargate does with a task definition, as its documentation says.

A task is a network namespace with an address of its own, held by a container that does nothing, and the task's containers in it. They start
and stop in the order of `dependsOn`, with their variables, secrets, volumes, limits and checks, write their lines to moto's CloudWatch Logs,
and what becomes of them is told by DescribeTasks.

Not as on Fargate: images without a registry's name are the engine's own; a task's memory limit holds for each of its containers alone;
containers get AWS_ENDPOINT_URL, and with a task role the emulator's credentials as variables rather than from an address; there is no
metadata address. What a task finds around it (load balancer, databases) is in surroundings.py.
`pace` shortens waits that are AWS's own (checks, draining), never what an application needs (`startPeriod`, `stopTimeout`, `startTimeout`).
"""
import collections
import os
import queue
import re
import threading
import time
import uuid

from moto.core.utils import utcnow

from account import lock, put_log_lines
from agent import Agent
from engine import Engine, EngineError, Gate
from health import own_targets
from surroundings import Surroundings

STAGE_LABEL = "shipway.aws-stage"
# The registry whose images a stage pulled, so that they are removed with it.
REGISTRY_LABEL = "shipway.aws-stage.registry"
# What is being started is waited for: a container removed under the engine's hands leaves a network that cannot be removed.
STARTED_WITHIN_SECONDS = 60
# The engine lets go of a network a while after its last container.
LEFT_WITHIN_SECONDS = 5
# Without a load balancer ECS waits so long after RUNNING before it calls a task steady.
STEADY_SECONDS = 40


class Fargate:
    def __init__(self, options, endpoint):
        self.engine = Engine(options.containers)
        self.registry = options.registry and options.registry.split("//")[-1]
        self.pace, self.log_delay = options.pace, options.log_delay
        sweep(self.engine)
        # Who owns it is in its name, so that the next stage can tell whether this one is gone.
        own = uuid.uuid4().hex[:6]
        self.id = "%d-%s-%s.%s" % (os.getpid(), started_at(os.getpid()), namespace(), own)
        self.name = "shipway-aws-%s" % own
        self.labels = {STAGE_LABEL: self.id, **({REGISTRY_LABEL: self.registry} if self.registry else {})}
        self.engine.call("POST", "/networks/create", {"Name": self.name, "CheckDuplicate": True, "Driver": "bridge", "Labels": self.labels})
        self.gateway = self.engine.call("GET", "/networks/%s" % self.name)["IPAM"]["Config"][0]["Gateway"]
        self.endpoint = endpoint.format(gateway=self.gateway)
        self.agents = {}
        # Whatever is made on the engine is made inside.
        self.gate = Gate()
        self.news_of_lines = queue.Queue()
        threading.Thread(target=self.deliver_lines, daemon=True).start()
        self.surroundings = Surroundings(self)

    # -- what the scheduler asks of whoever runs tasks

    def step(self, account, region, backend, task):
        if task.id not in self.agents and not self.gate.is_closed:
            self.agents[task.id] = Agent(self, account, region, backend, task)
            self.agents[task.id].start()

    def stop(self, task, stop_code, reason, exit_code=None):
        """Asks; containers end in their own time and say themselves what with."""
        if task.desired_status == "STOPPED":
            return
        task.desired_status = "STOPPED"
        task.stop_code, task.stopped_reason = stop_code, reason
        if task.id in self.agents:
            self.agents[task.id].news.put(("stop",))
        else:
            task.status, task.stopped_at = "STOPPED", utcnow()

    def is_steady(self, task):
        if task.status != "RUNNING" or task.health_status == "UNHEALTHY":
            return False
        checked = self.agents[task.id].is_checked()
        return task.health_status == "HEALTHY" if checked else time.time() - task.started_at.timestamp() > STEADY_SECONDS / self.pace

    def sickness(self, service, task):
        """Why ECS replaces a task that runs: its own check, or after the grace period the load balancer's."""
        if task.status != "RUNNING":
            return None
        reason = None
        if task.health_status == "UNHEALTHY":
            reason = "Task failed container health checks"
        elif time.time() - task.started_at.timestamp() > (getattr(service, "health_check_grace_period_seconds", None) or 0):
            sick = [arn for arn, target in own_targets(task) if target.state == "unhealthy"]
            reason = "Task failed ELB health checks in (target-group %s)" % sick[0] if sick else None
        task.was_sick = task.was_sick or reason is not None
        return reason

    def docker_id(self, task, container_name):
        """The engine's id of a task's container; for what goes into a running one, such as ECS Exec."""
        return self.agents[task.id].parts[container_name].docker_id

    def local_name(self, image):
        """What ECR would have is in the registry that stands in for it."""
        name, found = re.subn(r"^\d{12}\.dkr\.ecr\.[a-z0-9-]+\.amazonaws\.com/", "%s/" % self.registry, image)
        return name if found and self.registry else image

    # -- lines

    def write_line(self, to, at, text):
        self.news_of_lines.put((time.monotonic() + self.log_delay, to, at, text))

    def deliver_lines(self):
        """In order, each a while after it was written, as CloudWatch Logs shows them late."""
        while True:
            waiting = [self.news_of_lines.get()]
            time.sleep(max(0, waiting[0][0] - time.monotonic()))
            while not self.news_of_lines.empty() and self.news_of_lines.queue[0][0] <= time.monotonic():
                waiting.append(self.news_of_lines.get())
            streams = collections.OrderedDict()
            for _, to, at, text in waiting:
                streams.setdefault(to, []).append((at, text))
            with lock:
                for to, lines in streams.items():
                    put_log_lines(*to, lines)

    # -- the end

    def close(self):
        self.gate.close(STARTED_WITHIN_SECONDS)
        remove_stage(self.engine, self.id, self.registry)


def started_at(pid):
    """When a process started, in the kernel's ticks; "0" where there is no such process or no /proc."""
    try:
        with open("/proc/%d/stat" % pid) as file:
            return file.read().rsplit(")", 1)[1].split()[19]
    except OSError:
        return "0"


def namespace():
    """Whose processes these are: an engine may be shared by containers that do not see each other's."""
    try:
        return re.sub(r"\D", "", os.readlink("/proc/self/ns/pid"))
    except OSError:
        return "0"


def sweep(engine):
    """Removes what stages left behind whose process is gone."""
    having = {"label": [STAGE_LABEL]}
    made = engine.call("GET", "/networks", filters=having) + engine.call("GET", "/containers/json", all=1, filters=having)
    made += engine.call("GET", "/volumes", filters=having)["Volumes"] or []
    for stage, registry in {(one["Labels"][STAGE_LABEL], one["Labels"].get(REGISTRY_LABEL)) for one in made}:
        pid, started, rest = stage.split("-")
        where = rest.partition(".")[0]
        # A process elsewhere cannot be seen from here: what it made is not ours to judge.
        if where == namespace() and started_at(int(pid)) != started:
            remove_stage(engine, stage, registry)


def remove_stage(engine, stage, registry):
    mine = {"label": ["%s=%s" % (STAGE_LABEL, stage)]}
    ends = None
    while True:
        for container in engine.call("GET", "/containers/json", all=1, filters=mine):
            ends = None
            engine.attempt("DELETE", "/containers/%s" % container["Id"], force=1, v=1)
        for volume in engine.call("GET", "/volumes", filters=mine)["Volumes"] or []:
            engine.attempt("DELETE", "/volumes/%s" % volume["Name"], force=1)
        for image in engine.call("GET", "/images/json") if registry else []:
            for name in (image.get("RepoTags") or []) + (image.get("RepoDigests") or []):
                if name.startswith("%s/" % registry):
                    engine.attempt("DELETE", "/images/%s" % name)
        try:
            for network in engine.call("GET", "/networks", filters=mine):
                engine.attempt("DELETE", "/networks/%s" % network["Id"])
            return
        except EngineError:
            # A container that was just made is on it; or none is, and the engine has miscounted: until it is restarted nobody can remove it.
            ends = ends or time.monotonic() + LEFT_WITHIN_SECONDS
            if time.monotonic() > ends:
                return
            time.sleep(0.2)
