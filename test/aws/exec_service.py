"""ECS Exec at the stage: `ExecuteCommand`, and the agent beside each task that is to have one (exec_agent.py).

Where tasks are played, commands run on this machine, with the container's variables; where they are containers, inside them, as root.
"""
import json
import socket
import time
import uuid

from moto.core.responses import ActionResult
from moto.ecs import responses as ecs_responses
from moto.ecs.exceptions import ECSException, InvalidParameterException

import exec_agent
from account import definition_of, environment_of, lock

# How tasks' agents are, told by tests: status and reason of the agent, whether the service reaches it, faults of sessions (exec_agent.py).
behaviour = {"agent": "RUNNING", "reason": None, "connected": True, "faults": {}}
tokens = {}
runner_of = None
port = None

NOT_ENABLED = (
    "The execute command failed because execute command was not enabled when the task was run or the execute command agent isn\u2019t running. "
    "Wait and try again or run a new task with execute command enabled and try again."
)


def install(runner):
    global runner_of, port
    runner_of = runner
    port = exec_agent.serve(0, session_of)
    ecs_responses.EC2ContainerServiceResponse.execute_command = execute_command


def refuse_without_role(is_enabled, definition):
    if is_enabled and not getattr(definition, "task_role_arn", None):
        raise InvalidParameterException("The service couldn't be created because a valid taskRoleArn is not being used. Specify a valid task role in your task definition and try again.")


def show_agents(service, task):
    """What a task of a service says of its agent, while it runs."""
    task.enable_execute_command = getattr(service, "enable_execute_command", None) is True
    if not task.enable_execute_command:
        return
    for container in task.containers:
        status = behaviour["agent"] if task.status == "RUNNING" else "PENDING"
        container.managed_agents = [{"name": "ExecuteCommandAgent", "lastStatus": status, **({"reason": behaviour["reason"]} if behaviour["reason"] else {})}]


def execute_command(self):
    with lock:
        wanted = self._get_param("task").split("/")[-1]
        tasks = self.ecs_backend.tasks[self._get_param("cluster", "default").split("/")[-1]]
        task = next((one for one in tasks.values() if one.id == wanted), None)
        if task is None or task.status != "RUNNING":
            raise InvalidParameterException("The referenced task was not found.")
        if self._get_param("interactive") is not True:
            raise InvalidParameterException("Interactive is the only mode supported currently.")
        if not task.enable_execute_command or behaviour["agent"] != "RUNNING":
            raise InvalidParameterException(NOT_ENABLED)
        if not behaviour["connected"]:
            raise ECSException("TargetNotConnectedException", "The execute command failed due to an internal error. Try again later.")
        containers = definition_of(self.ecs_backend, task).container_definitions
        container = next((one for one in containers if one["name"] == (self._get_param("container") or containers[0]["name"])), None)
        if container is None:
            raise InvalidParameterException("The container %s was not found in the task." % self._get_param("container"))
        session, token = "ecs-execute-command-" + uuid.uuid4().hex[:25], uuid.uuid4().hex
        runner = runner_of()
        if hasattr(runner, "docker_id"):
            inside = runner.docker_id(task, container["name"])
            start = lambda words: ContainerTerminal(runner.engine, inside, words)
        else:
            environment = environment_of(self.current_account, self.region, container)
            start = lambda words: exec_agent.Terminal(words, environment)
        # The service would answer so to a role without the right.
        if behaviour["faults"].get("deny"):
            session = "status-403"
        tokens[token] = (self._get_param("command"), dict(behaviour["faults"]), start)
        return ActionResult({
            "clusterArn": task.cluster_arn, "taskArn": task.task_arn, "containerName": container["name"], "interactive": True,
            "session": {"sessionId": session, "streamUrl": "ws://127.0.0.1:%d/v1/data-channel/%s?role=publish_subscribe&cell-number=AAEAAQ" % (port, session), "tokenValue": token},
        })


def session_of(sock, _, token):
    # For one connection: it is over once it was used.
    found = tokens.pop(token, None)
    return None if found is None else exec_agent.Session(sock, *found)


class ContainerTerminal:
    """A command in a container, on a terminal of the engine's."""

    def __init__(self, engine, container, words):
        self.engine = engine
        self.id = engine.call("POST", "/containers/%s/exec" % container, {
            "Cmd": words, "User": "0", "Tty": True, "AttachStdin": True, "AttachStdout": True, "AttachStderr": True,
            "Env": ["%s=%s" % one for one in exec_agent.OF_AGENT.items()],
        })["Id"]
        body = json.dumps({"Tty": True, "Detach": False})
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.connect(engine.socket_path)
        self.socket.sendall((
            "POST /v1.41/exec/%s/start HTTP/1.1\r\nHost: docker\r\nContent-Type: application/json\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: %d\r\n\r\n%s"
            % (self.id, len(body), body)
        ).encode())
        head = b""
        while b"\r\n\r\n" not in head:
            some = self.socket.recv(4096)
            if not some:
                break
            head += some
        status, _, self.first = head.partition(b"\r\n\r\n")
        if b" 101 " not in status.split(b"\r\n")[0]:
            raise ValueError("Failed to start pty: %s" % self.first.decode(errors="replace").strip())

    def read(self, count):
        if not self.first:
            try:
                self.first = self.socket.recv(count)
            except OSError:
                return b""
        data, self.first = self.first[:count], self.first[count:]
        return data

    def write(self, data):
        try:
            self.socket.sendall(data)
        except OSError:
            pass

    def resize(self, rows, columns):
        # Before it runs there is nothing to resize: the agent takes a size once the terminal is there.
        for _ in range(50):
            try:
                return self.engine.attempt("POST", "/exec/%s/resize" % self.id, h=rows, w=columns)
            except Exception:
                time.sleep(0.02)

    def wait(self):
        while self.engine.call("GET", "/exec/%s/json" % self.id)["Running"]:
            time.sleep(0.02)

    def kill(self):
        self.socket.close()

    def sweep(self):
        """It ends with its container."""
