"""moto with a scheduler: services start tasks, deployments progress, targets get healthy or not, tasks write logs.

What moto itself does (the wire protocol, stored state, validation) is an independent implementation of AWS. Everything in this folder is
OUR BELIEF about AWS, read in its documentation and never seen on an account; tests that rest on it prove that the driver copes with
this belief, no more. docs/aws.md says the same to users.

    python3 scheduler.py PORT CONTROL [--registry URL] [--containers SOCKET] [--pace N] [--balancer PORT] [--log-delay SECONDS]
                         [--until-stdin-ends]

moto and control listen on these ports of 127.0.0.1. Tasks are played (played.py; with a registry, images by digest must be there), or with
`--containers` run as real containers of the Docker Engine behind that socket (fargate.py), from where moto is reached at `/endpoint`.
With a registry, builds of CodeBuild are really made and pushed there (builds.py).
    GET  /ground                         what Terraform makes of an account, laid at the first call
    GET  /backing                        a database and a cache in that account, and their addresses as variables
    GET  /endpoint                       where containers of tasks reach moto, and the label that all they are made of has
    GET  /answering?host=HOST            what the listener's rules lead a request to: {"release": 3} or {}
    GET  /listen?listener=ARN&port=N     starts a load balancer in front of that listener on this machine (balancer.py); {"port": N}
    GET  /exec?behaviour=JSON            how agents for ECS Exec are from now on (exec_service.py); what clients sent them wrong
    GET  /stats                          {"started": tasks started so far, "registered": task definitions, ...}
"""
import argparse
import json
import logging
import os
import signal
import sys
import threading
import time
import traceback
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlparse

from moto.core.responses import ActionResult
from moto.core.utils import camelcase_to_underscores, utcnow
from moto.ecs import models as ecs
from moto.ecs import responses as ecs_responses
from moto.ecs.exceptions import ECSException, InvalidParameterException
from moto.resourcegroupstaggingapi import models as tagging
from werkzeug.serving import make_server

import builds
import exec_service
import metrics
from account import backends, definition_of, ip_of, lock
from balancer import listen
from definitions import problem_of
from ground import lay_backing, lay_ground
from played import Played
from targets import is_attached, listeners, matching_rule, targets_of, weights_of

TICK_SECONDS = 0.03
stats = {"started": 0, "created": 0}
# Members that moto's CreateService drops and AWS keeps.
KEPT = ["deploymentConfiguration", "capacityProviderStrategy", "healthCheckGracePeriodSeconds", "enableExecuteCommand", "enableECSManagedTags", "availabilityZoneRebalancing"]
run_tokens = {}
create_tokens = {}
# What runs tasks: Played or Fargate.
runner = None


# ---------------------------------------------------------------- tasks

ecs.Task.advance = lambda self: None  # moto moves a task a step at each look; here the scheduler does
_task_init = ecs.Task.__init__


def task_init(self, *args, **kwargs):
    _task_init(self, *args, **kwargs)
    self.status = "PROVISIONING"
    self.created_at = utcnow()
    self.stop_code = None
    self.service = None
    self.was_sick = False
    self.health_status = "UNKNOWN"
    self.ticks = 0
    self.enable_execute_command = False
    definition = definition_of(self._backend, self)
    # moto gives a task its first container only.
    self.containers = [container_of(definition, one) for one in definition.container_definitions]
    stats["started"] += 1


def container_of(definition, told):
    container = ecs.Container(definition)
    container.name, container.image = told["name"], told.get("image")
    container.cpu, container.memory = told.get("cpu"), told.get("memory")
    container.exitCode = None
    container.last_status = "PENDING"
    container.reason = None
    container.health_status = "UNKNOWN"
    return container


ecs.Task.__init__ = task_init


# ---------------------------------------------------------------- services

def new_deployment(service):
    now = utcnow()
    return {
        "id": "ecs-svc/%d" % (uuid.uuid4().int % 10**19), "status": "PRIMARY", "taskDefinition": service.task_definition, "desiredCount": service.desired_count,
        "pendingCount": service.desired_count, "runningCount": 0, "failedTasks": 0, "createdAt": now, "updatedAt": now, "launchType": service.launch_type,
        "rolloutState": "IN_PROGRESS", "rolloutStateReason": "ECS deployment in progress.", "networkConfiguration": service.network_configuration,
    }


def event(service, text):
    service.events.insert(0, {"id": str(uuid.uuid4()), "createdAt": utcnow(), "message": "(service %s) %s" % (service.name, text)})


_create, _update = ecs_responses.EC2ContainerServiceResponse.create_service, ecs_responses.EC2ContainerServiceResponse.update_service


def create_service(self):
    with lock:
        backend, cluster, name = self.ecs_backend, self._get_param("cluster", "default").split("/")[-1], self._get_param("serviceName")
        token = self._get_param("clientToken")
        old = backend.services.get("%s:%s" % (cluster, name))
        if old and old.status != "INACTIVE":
            if token and create_tokens.get(token) == old.arn and old.status == "ACTIVE":
                return ActionResult({"service": old})
            if old.status == "DRAINING":
                raise InvalidParameterException("Unable to Start a service that is still Draining.")
            raise InvalidParameterException("Creation of service was not idempotent.")
        exec_service.refuse_without_role(self._get_param("enableExecuteCommand"), backend.describe_task_definition(self._get_param("taskDefinition")))
        for balancer in self._get_param("loadBalancers") or []:
            if not is_attached(balancer["targetGroupArn"]):
                raise InvalidParameterException("The target group with targetGroupArn %s does not have an associated load balancer." % balancer["targetGroupArn"])
        _create(self)
        service = backend.services["%s:%s" % (cluster, name)]
        for key in KEPT:
            value = self._get_param(key)
            if value is not None:
                setattr(service, camelcase_to_underscores(key), value)
        service.deployments = [new_deployment(service)]
        service.running_count, service.pending_count = 0, service.desired_count
        service.own_tasks = []
        stats["created"] += 1
        if token:
            create_tokens[token] = service.arn
        return ActionResult({"service": service})


def update_service(self):
    with lock:
        backend, cluster, name = self.ecs_backend, self._get_param("cluster", "default").split("/")[-1], self._get_param("service").split("/")[-1]
        service = backend.services.get("%s:%s" % (cluster, name))
        if service and service.status != "ACTIVE":
            raise ECSException("ServiceNotActiveException", "Service was not ACTIVE.")
        before = (service.task_definition, service.running_count, service.pending_count) if service else None
        # moto gives the deployment that is there another id for forceNewDeployment; on AWS it stays, and another comes beside it.
        ids = [one["id"] for one in service.deployments] if service else []
        _update(self)
        for one, id in zip(service.deployments, ids):
            one["id"] = id
        wanted = self._get_param("taskDefinition")
        if wanted:
            service.task_definition = backend.describe_task_definition(wanted).arn
        service.running_count, service.pending_count = before[1], before[2]
        if service.task_definition != before[0] or self._get_param("forceNewDeployment"):
            for one in service.deployments:
                one["status"] = "ACTIVE"
            service.deployments.insert(0, new_deployment(service))
        else:
            service.deployments[0]["desiredCount"] = service.desired_count
        return ActionResult({"service": service})


def delete_service(self):
    with lock:
        cluster, name = self._get_param("cluster", "default").split("/")[-1], self._get_param("service").split("/")[-1]
        service = self.ecs_backend.services.get("%s:%s" % (cluster, name))
        if service is None or service.status == "INACTIVE":
            raise ECSException("ServiceNotFoundException", "Service not found.")
        if service.desired_count > 0 and not self._get_param("force", False):
            raise InvalidParameterException("The service cannot be stopped while it is scaled above 0.")
        service.desired_count = 0
        service.status = "DRAINING"
        return ActionResult({"service": service})


_run_task = ecs_responses.EC2ContainerServiceResponse.run_task
_backend_run_task = ecs.EC2ContainerServiceBackend.run_task


def backend_run_task(self, cluster, definition, count, overrides, started_by, tags, launch_type, network, *rest):
    # There are no instances here: what names a capacity provider gets Fargate. moto wants security groups; AWS takes the VPC's default one.
    if network and "awsvpcConfiguration" in network:
        network["awsvpcConfiguration"].setdefault("securityGroups", [])
    return _backend_run_task(self, cluster, definition, count, overrides, started_by, tags, launch_type or "FARGATE", network, *rest)


ecs.EC2ContainerServiceBackend.run_task = backend_run_task
# Of instances only; it fails on containers without a memory limit of their own.
ecs.EC2ContainerServiceBackend._calculate_task_resource_requirements = staticmethod(lambda definition: {"CPU": 0, "MEMORY": 0, "PORTS": [], "PORTS_UDP": []})


def run_task(self):
    with lock:
        token = self._get_param("clientToken")
        asked = json.dumps({key: value for key, value in self._get_params().items()}, sort_keys=True, default=str)
        if token and token in run_tokens:
            known, tasks = run_tokens[token]
            if known != asked:
                raise ECSException("ConflictException", "Request already submitted with different parameters.")
            return ActionResult({"tasks": tasks, "failures": []})
        answer = _run_task(self)
        if token:
            run_tokens[token] = (asked, answer.result["tasks"] if hasattr(answer, "result") else [])
        return answer


_register = ecs_responses.EC2ContainerServiceResponse.register_task_definition


def register_task_definition(self):
    problem = problem_of(self._get_param("containerDefinitions") or [])
    if problem:
        raise ECSException("ClientException", problem)
    return _register(self)


def list_tasks(self):
    with lock:
        tasks = self.ecs_backend.list_tasks(
            self._get_param("cluster", "default"), self._get_param("containerInstance"), self._get_param("family"),
            self._get_param("startedBy"), None, self._get_param("desiredStatus") or "RUNNING",
        )
        name = self._get_param("serviceName")
        if name:
            tasks = [task for task in tasks if task.service is not None and task.service.name == name.split("/")[-1]]
        return ActionResult({"taskArns": [task.task_arn for task in tasks]})


def stop_task(self):
    with lock:
        wanted = self._get_param("task").split("/")[-1]
        for tasks in self.ecs_backend.tasks.values():
            for task in tasks.values():
                if task.id == wanted:
                    if task.desired_status != "STOPPED":
                        runner.stop(task, "UserInitiated", self._get_param("reason") or "Task stopped by user", 137)
                    return ActionResult({"task": task})
        raise InvalidParameterException("The referenced task was not found.")


for own in (create_service, update_service, delete_service, run_task, list_tasks, stop_task, register_task_definition):
    setattr(ecs_responses.EC2ContainerServiceResponse, own.__name__, own)


_get_resources = tagging.ResourceGroupsTaggingAPIBackend.get_resources


def get_resources(self, *args, **kwargs):
    """moto 5.2.1 falls over things of ECS that were made without tags."""
    backend = self.ecs_backend
    for one in [*backend.clusters.values(), *backend.services.values(), *(task for tasks in backend.tasks.values() for task in tasks.values())]:
        one.tags = one.tags or []
    return _get_resources(self, *args, **kwargs)


tagging.ResourceGroupsTaggingAPIBackend.get_resources = get_resources


def tasks_of(service, deployment):
    return [task for task in service.own_tasks if task.started_by == deployment["id"]]


def start_task(backend, service, deployment):
    tasks = backend.run_task(
        service.cluster_name, deployment["taskDefinition"], 1, None, deployment["id"], service.tags if service.propagate_tags == "SERVICE" else None,
        "FARGATE", service.network_configuration, "service:%s" % service.name, None,
    )
    for task in tasks:
        task.service = service
        service.own_tasks.append(task)
    event(service, "has started 1 tasks: (task %s)." % tasks[0].id)


# From here on a task is on its way out and a service that is deleted no longer waits for it.
GOING = ("STOPPING", "DEPROVISIONING", "STOPPED")


def step_service(account, region, backend, service):
    if not hasattr(service, "own_tasks") or service.status == "INACTIVE":
        return
    for deployment in list(service.deployments):
        step_deployment(backend, service, deployment)
    service.deployments = [one for one in service.deployments if one["status"] == "PRIMARY" or one["runningCount"] + one["pendingCount"] > 0]
    service.running_count = sum(one["runningCount"] for one in service.deployments)
    service.pending_count = sum(one["pendingCount"] for one in service.deployments)
    if service.status == "DRAINING" and all(task.status in GOING for task in service.own_tasks):
        service.status = "INACTIVE"
        service.deployments = []


def step_deployment(backend, service, deployment):
    own = tasks_of(service, deployment)
    for task in own:
        exec_service.show_agents(service, task)
        sickness = runner.sickness(service, task) if task.desired_status == "RUNNING" else None
        if sickness:
            event(service, "(task %s) %s" % (task.id, sickness))
            runner.stop(task, "ServiceSchedulerInitiated", sickness)
    failed = [task for task in own if task.status == "STOPPED" and (task.stop_code not in ("ServiceSchedulerInitiated", "UserInitiated") or task.was_sick)]
    alive = [task for task in own if task.desired_status == "RUNNING"]
    deployment["failedTasks"] = len(failed)
    if deployment["status"] == "PRIMARY" and service.status == "ACTIVE":
        wanted = service.desired_count
        breaker = (getattr(service, "deployment_configuration", None) or {}).get("deploymentCircuitBreaker") or {}
        threshold = min(200, max(3, -(-wanted // 2)))
        if breaker.get("enable") and deployment["rolloutState"] == "IN_PROGRESS" and len(failed) >= threshold:
            deployment.update(rolloutState="FAILED", rolloutStateReason="ECS deployment circuit breaker: tasks failed to start.")
        if deployment["rolloutState"] != "FAILED":
            for _ in range(wanted - len(alive)):
                start_task(backend, service, deployment)
    else:
        primary = service.deployments[0]
        wanted = 0 if service.status != "ACTIVE" or primary["rolloutState"] == "COMPLETED" else len(alive)
    for task in alive[wanted:]:
        runner.stop(task, "ServiceSchedulerInitiated", "Scaling activity initiated by (deployment %s)" % deployment["id"])
    alive = [task for task in own if task.desired_status == "RUNNING"]
    running = [task for task in alive if task.status == "RUNNING"]
    deployment.update(runningCount=len(running), pendingCount=len(alive) - len(running), desiredCount=service.desired_count if deployment["status"] == "PRIMARY" else 0)
    healthy = [task for task in running if is_healthy(service, task)]
    if deployment["status"] == "PRIMARY" and deployment["rolloutState"] == "IN_PROGRESS" and len(healthy) >= service.desired_count:
        deployment.update(rolloutState="COMPLETED", rolloutStateReason="ECS deployment %s completed." % deployment["id"], updatedAt=utcnow())
        event(service, "has reached a steady state.")


def is_healthy(service, task):
    if not service.load_balancers:
        return runner.is_steady(task)
    targets = [targets_of(one["targetGroupArn"]).get(ip_of(task)) for one in service.load_balancers]
    return all(one is not None and one.state == "healthy" for one in targets)


def tick():
    for account, region, backend in backends():
        for tasks in list(backend.tasks.values()):
            for task in [one for one in tasks.values() if one.status != "STOPPED"]:
                runner.step(account, region, backend, task)
        for service in list(backend.services.values()):
            step_service(account, region, backend, service)


def run_scheduler():
    while True:
        time.sleep(TICK_SECONDS)
        try:
            with lock:
                tick()
        except Exception:
            traceback.print_exc()


def answering(host):
    """Which release a request with this Host header reaches, by the listener's rules, their weights and the targets' health."""
    def matches(condition):
        return condition["Field"] != "host-header" or host in condition["HostHeaderConfig"]["Values"]

    rule = next((found for found in (matching_rule(listener, matches) for _, listener in listeners()) if found), None)
    forwards = [one for action in rule.actions for one in weights_of(action)] if rule else []
    for group_arn in [arn for arn, weight in forwards if weight > 0]:
        ips = [ip for ip, target in targets_of(group_arn).items() if target.state == "healthy"]
        for _, _, backend in backends():
            for task in [one for tasks in backend.tasks.values() for one in tasks.values()]:
                if task.status == "RUNNING" and task.attachments and ip_of(task) in ips:
                    tags = {tag["key"]: tag["value"] for tag in definition_of(backend, task).tags}
                    return {"release": int(tags["shipway:release"][1:])}
    return {}


def open_balancer(listener_arn, at):
    """For this machine, and for tasks under the names of the rules."""
    opened = listen(listener_arn, "127.0.0.1", at)
    if options.containers:
        runner.surroundings.open_door(listen(listener_arn, runner.gateway, 0))
    return opened


class Control(BaseHTTPRequestHandler):
    def do_GET(self):
        asked = urlparse(self.path)
        query = {name: values[0] for name, values in parse_qs(asked.query).items()}
        said = self.answer(asked.path, query)
        self.send_response(404 if said is None else 200)
        self.end_headers()
        self.wfile.write(json.dumps(said).encode())

    def answer(self, path, query):
        if path == "/ground":
            return lay_ground(port)
        if path == "/backing":
            return lay_backing(port)
        if path == "/endpoint":
            return {"endpoint": runner.endpoint, "stage": runner.id} if options.containers else {"endpoint": None}
        if path == "/listen":
            return {"port": open_balancer(query["listener"], int(query["port"]))}
        with lock:
            if path == "/answering":
                return answering(query["host"])
            if path == "/exec":
                exec_service.behaviour.update(json.loads(query["behaviour"]))
                return {"complaints": exec_service.exec_agent.complaints}
            if path == "/stats":
                definitions = sum(len(revisions) for _, _, backend in backends() for revisions in backend.task_definitions.values())
                return {**stats, "definitions": definitions}
        return None

    def log_message(self, *arguments):
        pass


def make_moto():
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

    # One request at a time, and none while the scheduler moves things.
    _call = DomainDispatcherApplication.__call__

    def call_alone(self, environ, start_response):
        with lock:
            return _call(self, environ, start_response)

    DomainDispatcherApplication.__call__ = call_alone
    return DomainDispatcherApplication(create_backend_app)


def end_with_owner():
    """Standard input ends when who started this ends, however that comes about."""
    sys.stdin.buffer.read()
    end()


def end(*_):
    exec_service.exec_agent.end_all()
    try:
        builds.close()
        runner.close()
    finally:
        os._exit(0)


def parse_options():
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("control", type=int)
    parser.add_argument("--registry", help="tasks start only from images that are there")
    parser.add_argument("--containers", metavar="SOCKET", help="run tasks as containers of this Docker Engine")
    parser.add_argument("--pace", type=float, default=1, help="AWS's own waits are shorter by this factor")
    parser.add_argument("--balancer", type=int, metavar="PORT", help="a load balancer at this port, in front of the only listener")
    parser.add_argument("--log-delay", type=float, default=0.2, help="seconds until a line of a container is in CloudWatch Logs")
    parser.add_argument("--until-stdin-ends", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    metrics.install()
    options = parse_options()
    port = options.port
    if options.containers:
        from fargate import Fargate

        runner = Fargate(options, "http://{gateway}:%d" % port)
    else:
        runner = Played(options.registry)
    exec_service.install(lambda: runner)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    if options.until_stdin_ends:
        threading.Thread(target=end_with_owner, daemon=True).start()
    threading.Thread(target=run_scheduler, daemon=True).start()
    threading.Thread(target=ThreadingHTTPServer(("127.0.0.1", options.control), Control).serve_forever, daemon=True).start()
    if options.registry:
        builds.play("http://127.0.0.1:%d" % port, options.registry)
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    os.environ["MOTO_PORT"] = str(port)
    if options.balancer is not None:
        open_balancer(None, options.balancer)
    moto = make_moto()
    if options.containers:
        # Where containers reach it, too: the host's address on their network.
        threading.Thread(target=make_server(runner.gateway, port, moto, threaded=True).serve_forever, daemon=True).start()
    make_server("127.0.0.1", port, moto, threaded=True).serve_forever()
