"""moto with a scheduler: services start tasks, deployments progress, targets get healthy or not, tasks write logs.

What moto itself does (the wire protocol, stored state, validation) is an independent implementation of AWS. Everything in this file is
OUR BELIEF about AWS, read in its documentation and never seen on an account; tests that rest on it prove that the driver copes with
this belief, no more. docs/aws.md says the same to users.

    python3 scheduler.py PORT CONTROL [REGISTRY]   moto and control on these ports of 127.0.0.1; images by digest must be in REGISTRY
    GET  /answering?host=HOST            what the listener's rules lead a request to: {"release": 3} or {}
    GET  /stats                          {"started": tasks started so far, "registered": task definitions, ...}

How a task behaves is told by its image's tag, or its variable BEHAVE: `broken` answers 500, `exits` ends with 1 at once, `crashes` is healthy until it gets
traffic, `unpullable` cannot be pulled, `oom` is ended for its memory; anything else is healthy after a few ticks.
A command of the form `sh -c LINE` is played, not run: `echo TEXT`, `sleep SECONDS`, `exit CODE`, joined by `;`.
"""
import json
import sys
import threading
import time
import traceback
import urllib.request
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlparse

from moto.core.responses import ActionResult
from moto.core.utils import camelcase_to_underscores, utcnow
from moto.ecs import models as ecs
from moto.ecs import responses as ecs_responses
from moto.ecs.exceptions import ECSException, InvalidParameterException
from moto.elbv2 import models as elb
from moto.logs.models import logs_backends
from moto.secretsmanager.models import secretsmanager_backends

TICK_SECONDS = 0.03
lock = threading.RLock()
stats = {"started": 0, "created": 0}
# Members that moto's CreateService drops and AWS keeps.
KEPT = ["deploymentConfiguration", "capacityProviderStrategy", "healthCheckGracePeriodSeconds", "enableExecuteCommand", "enableECSManagedTags", "availabilityZoneRebalancing"]
# Target group ARN -> {ip: (port, state, reason, description)}
targets = {}
run_tokens = {}
create_tokens = {}


def backends():
    for account, regions in list(ecs.ecs_backends.items()):
        for region, backend in list(regions.items()):
            yield account, region, backend


# ---------------------------------------------------------------- tasks

ecs.Task.advance = lambda self: None  # moto moves a task a step at each look; here the scheduler does
_task_init = ecs.Task.__init__


def task_init(self, *args, **kwargs):
    _task_init(self, *args, **kwargs)
    self.status = "PROVISIONING"
    self.created_at = utcnow()
    self.stop_code = None
    self.service = None
    self.ticks = 0
    for container in self.containers:
        container.exitCode = None
        container.last_status = "PENDING"
        container.reason = None
    stats["started"] += 1


ecs.Task.__init__ = task_init


def definition_of(backend, task):
    return backend.describe_task_definition(task.task_definition_arn)


def tag_of_image(container):
    told = next((one["value"] for one in container.get("environment") or [] if one["name"] == "BEHAVE"), None)
    return told or container["image"].split("@")[0].split(":")[-1]


registry = None
pulled = set()


def can_pull(image):
    """Asks the registry for the manifest, as a pull begins."""
    if registry is None or "@" not in image or image in pulled:
        return True
    name, digest = image.split("/", 1)[1].split("@")
    request = urllib.request.Request("%s/v2/%s/manifests/%s" % (registry, name, digest), method="HEAD", headers={"Accept": "application/vnd.docker.distribution.manifest.v2+json"})
    try:
        urllib.request.urlopen(request, timeout=5)
    except OSError:
        return False
    pulled.add(image)
    return True


def log(account, region, task, container, text):
    options = (container.get("logConfiguration") or {}).get("options") or {}
    if "awslogs-group" not in options:
        return
    backend = logs_backends[account][region]
    stream = "%s/%s/%s" % (options["awslogs-stream-prefix"], container["name"], task.id)
    backend.ensure_log_stream(options["awslogs-group"], stream)
    backend.put_log_events(options["awslogs-group"], stream, [{"timestamp": int(time.time() * 1000), "message": text}])


def secret_value(account, region, value_from):
    """The version and key that `arn:…:secret:NAME:KEY:STAGE:VERSION` names."""
    parts = value_from.split(":")
    arn, key, version = ":".join(parts[:7]), parts[7], parts[9]
    found = next((one for one in secretsmanager_backends[account][region].secrets.values() if one.arn == arn), None)
    return (found and found.versions.get(version)), key


def start_problem(account, region, container):
    """What keeps a task from starting on Fargate: the image, a secret, a log group that is not there."""
    options = (container.get("logConfiguration") or {}).get("options") or {}
    if options.get("awslogs-group") and options["awslogs-group"] not in logs_backends[account][region].groups:
        return "ResourceInitializationError: failed to validate logger args: The specified log group does not exist."
    for secret in container.get("secrets") or []:
        value, key = secret_value(account, region, secret["valueFrom"])
        if not value or key not in json.loads(value["secret_string"]):
            return "ResourceInitializationError: unable to pull secrets or registry auth: %s is not there in that version" % secret["valueFrom"]
    if tag_of_image(container) == "unpullable" or not can_pull(container["image"]):
        return "CannotPullContainerError: pull image manifest has been retried 1 time(s): failed to resolve ref %s: not found" % container["image"]
    return None


def end_task(task, code, stop_code, reason, container_reason=None):
    task.status = "STOPPED"
    task.desired_status = "STOPPED"
    task.stop_code = stop_code
    task.stopped_reason = reason
    task.stopped_at = utcnow()
    for container in task.containers:
        container.exitCode = code
        container.last_status = "STOPPED"
        container.reason = container_reason
    unregister(task)


def ip_of(task):
    return next(one["value"] for one in task.attachments[0]["details"] if one["name"] == "privateIPv4Address")


def unregister(task):
    for group in targets.values():
        group.pop(ip_of(task), None)


def has_traffic(group_arn):
    for regions in elb.elbv2_backends.values():
        for backend in regions.values():
            for balancer in backend.load_balancers.values():
                for listener in balancer.listeners.values():
                    for rule in listener.rules.values():
                        for action in rule.actions:
                            for one in (action.data.get("ForwardConfig") or {}).get("TargetGroups") or []:
                                if one["TargetGroupArn"] == group_arn and int(one.get("Weight", 1)) > 0:
                                    return True
    return False


def step_task(account, region, backend, task):
    if task.status == "STOPPED":
        return
    task.ticks += 1
    container = definition_of(backend, task).container_definitions[0]
    if task.status in ("PROVISIONING", "PENDING"):
        if task.ticks == 1:
            task.status = "PENDING"
            return
        problem = start_problem(account, region, container)
        if problem:
            return end_task(task, None, "TaskFailedToStart", problem)
        task.status = "RUNNING"
        task.started_at = utcnow()
        for one in task.containers:
            one.last_status = "RUNNING"
        if task.service is not None:
            log(account, region, task, container, "%s says hello" % container["name"])
        else:
            threading.Thread(target=play, args=(account, region, backend, task, container), daemon=True).start()
        return
    if task.service is None:
        return
    tag = tag_of_image(container)
    if tag == "exits":
        log(account, region, task, container, "cannot start: no configuration")
        return end_task(task, 1, "EssentialContainerExited", "Essential container in task exited")
    if tag == "oom":
        return end_task(task, 137, "EssentialContainerExited", "Essential container in task exited", "OutOfMemoryError: Container killed due to memory usage")
    for balancer in task.service.load_balancers:
        group = targets.setdefault(balancer["targetGroupArn"], {})
        state = ("healthy", None, None)
        if tag == "broken":
            state = ("unhealthy", "Target.ResponseCodeMismatch", "Health checks failed with these codes: [500]")
        elif ip_of(task) not in group:
            state = ("initial", "Elb.RegistrationInProgress", "Target registration is in progress")
        group[ip_of(task)] = (balancer["containerPort"],) + state
        if tag == "crashes" and has_traffic(balancer["targetGroupArn"]):
            log(account, region, task, container, "fatal: out of luck")
            return end_task(task, 1, "EssentialContainerExited", "Essential container in task exited")


def environment_of(account, region, container):
    """A container's variables, its secrets' values among them, as the agent injects them."""
    values = {one["name"]: one["value"] for one in container.get("environment") or []}
    for secret in container.get("secrets") or []:
        value, key = secret_value(account, region, secret["valueFrom"])
        values[secret["name"]] = json.loads(value["secret_string"])[key]
    return values


def play(account, region, backend, task, container):
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
            end_task(task, code, "EssentialContainerExited", "Essential container in task exited")


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


def is_attached(group_arn):
    for regions in elb.elbv2_backends.values():
        for backend in regions.values():
            if group_arn not in backend.target_groups:
                continue
            for balancer in backend.load_balancers.values():
                for listener in balancer.listeners.values():
                    for rule in listener.rules.values():
                        if any(one["TargetGroupArn"] == group_arn for action in rule.actions for one in (action.data.get("ForwardConfig") or {}).get("TargetGroups") or []):
                            return True
    return False


def update_service(self):
    with lock:
        backend, cluster, name = self.ecs_backend, self._get_param("cluster", "default").split("/")[-1], self._get_param("service").split("/")[-1]
        service = backend.services.get("%s:%s" % (cluster, name))
        if service and service.status != "ACTIVE":
            raise ECSException("ServiceNotActiveException", "Service was not ACTIVE.")
        before = (service.task_definition, service.running_count, service.pending_count) if service else None
        _update(self)
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


_run_task = ecs_responses.EC2ContainerServiceResponse.run_task


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
                    if task.status != "STOPPED":
                        end_task(task, 137, "UserInitiated", self._get_param("reason") or "Task stopped by user")
                    return ActionResult({"task": task})
        raise InvalidParameterException("The referenced task was not found.")


for own in (create_service, update_service, delete_service, run_task, list_tasks, stop_task):
    setattr(ecs_responses.EC2ContainerServiceResponse, own.__name__, own)


def describe_target_health(self, target_group_arn, targets_asked):
    if target_group_arn not in self.target_groups:
        raise elb.TargetGroupNotFoundError()
    with lock:
        return [
            elb.FakeHealthStatus(ip, port, str(port), state, reason, description)
            for ip, (port, state, reason, description) in targets.get(target_group_arn, {}).items()
        ]


elb.ELBv2Backend.describe_target_health = describe_target_health


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


def step_service(account, region, backend, service):
    if not hasattr(service, "own_tasks") or service.status == "INACTIVE":
        return
    for deployment in list(service.deployments):
        own = tasks_of(service, deployment)
        failed = [task for task in own if task.status == "STOPPED" and task.stop_code not in ("ServiceSchedulerInitiated", "UserInitiated")]
        alive = [task for task in own if task.status != "STOPPED"]
        running = [task for task in alive if task.status == "RUNNING"]
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
            end_task(task, 0, "ServiceSchedulerInitiated", "Scaling activity initiated by (deployment %s)" % deployment["id"])
        alive = [task for task in own if task.status != "STOPPED"]
        running = [task for task in alive if task.status == "RUNNING"]
        deployment.update(runningCount=len(running), pendingCount=len(alive) - len(running), desiredCount=service.desired_count if deployment["status"] == "PRIMARY" else 0)
        healthy = [task for task in running if is_healthy(service, task)]
        if deployment["status"] == "PRIMARY" and deployment["rolloutState"] == "IN_PROGRESS" and len(healthy) >= service.desired_count:
            deployment.update(rolloutState="COMPLETED", rolloutStateReason="ECS deployment %s completed." % deployment["id"], updatedAt=utcnow())
            event(service, "has reached a steady state.")
    service.deployments = [one for one in service.deployments if one["status"] == "PRIMARY" or one["runningCount"] + one["pendingCount"] > 0]
    service.running_count = sum(one["runningCount"] for one in service.deployments)
    service.pending_count = sum(one["pendingCount"] for one in service.deployments)
    if service.status == "DRAINING" and service.running_count + service.pending_count == 0:
        service.status = "INACTIVE"
        service.deployments = []


# Without a load balancer ECS waits 40 s after RUNNING; here it is some ticks.
STEADY_TICKS = 8


def is_healthy(service, task):
    if not service.load_balancers and task.ticks < STEADY_TICKS:
        return False
    return all(targets.get(one["targetGroupArn"], {}).get(ip_of(task), (0, "unused"))[1] == "healthy" for one in service.load_balancers)


def tick():
    for account, region, backend in backends():
        for tasks in list(backend.tasks.values()):
            for task in [one for one in tasks.values() if one.status != "STOPPED"]:
                step_task(account, region, backend, task)
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
    rules = [
        rule
        for regions in elb.elbv2_backends.values() for backend in regions.values() for balancer in backend.load_balancers.values()
        for listener in balancer.listeners.values() for rule in listener.rules.values()
    ]
    for rule in sorted((one for one in rules if one.priority != "default"), key=lambda one: int(one.priority)):
        hosts = [value for condition in rule.conditions if condition["Field"] == "host-header" for value in condition["HostHeaderConfig"]["Values"]]
        if host not in hosts:
            continue
        for action in rule.actions:
            for one in (action.data.get("ForwardConfig") or {}).get("TargetGroups") or []:
                if int(one.get("Weight", 1)) == 0:
                    continue
                ips = [ip for ip, (_, state, _, _) in targets.get(one["TargetGroupArn"], {}).items() if state == "healthy"]
                for _, _, backend in backends():
                    for tasks in backend.tasks.values():
                        for task in tasks.values():
                            if task.status == "RUNNING" and task.attachments and ip_of(task) in ips:
                                tags = {tag["key"]: tag["value"] for tag in definition_of(backend, task).tags}
                                return {"release": int(tags["shipway:release"][1:])}
        return {}
    return {}


ground = None


def lay_ground():
    """What Terraform makes of an account: network, load balancer, listener, cluster, roles."""
    global ground
    if ground is None:
        import boto3

        def client(name):
            return boto3.client(name, region_name="eu-central-1", endpoint_url="http://127.0.0.1:%d" % port, aws_access_key_id="test", aws_secret_access_key="test")

        ec2, balancing = client("ec2"), client("elbv2")
        vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
        ec2.modify_vpc_attribute(VpcId=vpc, EnableDnsHostnames={"Value": True})
        subnets = [ec2.create_subnet(VpcId=vpc, CidrBlock="10.0.%d.0/20" % (16 * index), AvailabilityZone="eu-central-1" + zone)["Subnet"]["SubnetId"] for index, zone in enumerate("ab")]
        group = ec2.create_security_group(GroupName="tasks", Description="tasks", VpcId=vpc)["GroupId"]
        client("ecs").create_cluster(clusterName="shipway-test")
        balancer = balancing.create_load_balancer(Name="shipway-test", Subnets=subnets, SecurityGroups=[group])["LoadBalancers"][0]["LoadBalancerArn"]
        listener = balancing.create_listener(
            LoadBalancerArn=balancer, Protocol="HTTP", Port=80, DefaultActions=[{"Type": "fixed-response", "FixedResponseConfig": {"StatusCode": "404"}}]
        )["Listeners"][0]["ListenerArn"]
        ground = {
            "region": "eu-central-1", "cluster": "shipway-test", "listener": listener, "subnets": subnets, "securityGroups": [group],
            "executionRole": "arn:aws:iam::123456789012:role/shipway-exec-test", "publicIp": False, "scheme": "http",
            "architecture": "x86_64", "storageGiB": 20, "logRetentionDays": 30,
        }
    return ground


class Control(BaseHTTPRequestHandler):
    def do_GET(self):
        asked = urlparse(self.path)
        said = lay_ground() if asked.path == "/ground" else None
        with lock:
            if said is not None:
                pass
            elif asked.path == "/answering":
                said = answering(parse_qs(asked.query)["host"][0])
            else:
                definitions = sum(len(revisions) for _, _, backend in backends() for revisions in backend.task_definitions.values())
                said = {**stats, "definitions": definitions}
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(said).encode())

    def log_message(self, *arguments):
        pass


if __name__ == "__main__":
    port = int(sys.argv[1])
    registry = sys.argv[3] if len(sys.argv) > 3 else None
    threading.Thread(target=run_scheduler, daemon=True).start()
    threading.Thread(target=ThreadingHTTPServer(("127.0.0.1", int(sys.argv[2])), Control).serve_forever, daemon=True).start()
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication
    from moto.server import main

    # One request at a time, and none while the scheduler moves things: moto's own structures know no locks.
    _call = DomainDispatcherApplication.__call__

    def call_alone(self, environ, start_response):
        with lock:
            return _call(self, environ, start_response)

    DomainDispatcherApplication.__call__ = call_alone
    main(["-H", "127.0.0.1", "-p", str(port)])
