"""A task definition's containers in the Docker Engine's words."""
import copy

NANO = 1_000_000_000
MIB = 1024 * 1024
# It sleeps, and holds a task's network namespace. Any image with `sleep` will do; this one is on every machine that runs these tests.
PAUSE_IMAGE = "debian:bookworm-slim"
# Fargate's default (Amazon ECS API, ContainerDefinition, `stopTimeout`).
STOP_SECONDS = 30


def stop_timeout_of(told):
    return told.get("stopTimeout", STOP_SECONDS)


def merged(definition, overrides):
    """The containers as this task runs them: RunTask's overrides over the definition; variables are added to it."""
    told = copy.deepcopy(definition.container_definitions)
    for override in (overrides or {}).get("containerOverrides") or []:
        container = next((one for one in told if one["name"] == override.get("name")), None)
        if container is None:
            continue
        for key in ("command", "cpu", "memory", "memoryReservation"):
            if override.get(key) is not None:
                container[key] = override[key]
        variables = {one["name"]: one["value"] for one in (container.get("environment") or []) + (override.get("environment") or [])}
        container["environment"] = [{"name": name, "value": value} for name, value in variables.items()]
    return told


def size_of(definition, overrides, name):
    """Units of cpu or MiB of memory of the whole task; "1 vCPU" and "2 GB" are other words for them."""
    text = str((overrides or {}).get(name) or getattr(definition, name) or "0").strip().lower()
    for unit in (" vcpu", "vcpu", " gb", "gb"):
        if text.endswith(unit):
            return int(float(text[: -len(unit)]) * 1024)
    return int(text)


def volume_of(fargate, task, name):
    return "%s-%s-%s" % (fargate.name, task.id.split("-")[0], name)


def pause_body(fargate, task):
    return {
        "Image": PAUSE_IMAGE, "Entrypoint": ["sleep"], "Cmd": ["infinity"], "Healthcheck": {"Test": ["NONE"]},
        "Labels": {**fargate.labels, "shipway.aws-task": task.id},
        # Whoever is in this network namespace has its hosts file, too.
        "HostConfig": {"NetworkMode": fargate.name, "ExtraHosts": fargate.surroundings.extra_hosts()},
    }


def container_body(agent, part):
    told, task, definition = part.told, agent.task, agent.definition
    mounts, trust = agent.fargate.surroundings.trust_of_tasks()
    variables = {**variables_of_fargate(agent), **trust, **agent.environments[part.name]}
    body = {
        "Image": agent.fargate.local_name(told["image"]),
        "Env": ["%s=%s" % one for one in variables.items()],
        "Healthcheck": health_check_of(told, agent.fargate.pace),
        "Labels": {**(told.get("dockerLabels") or {}), **agent.fargate.labels, "shipway.aws-task": task.id, "shipway.aws-container": part.name},
        "HostConfig": limits_of(told, definition, task.overrides),
    }
    for key, name in {"command": "Cmd", "entryPoint": "Entrypoint", "user": "User", "workingDirectory": "WorkingDir", "interactive": "OpenStdin"}.items():
        if told.get(key):
            body[name] = told[key]
    body["HostConfig"]["NetworkMode"] = "container:%s" % agent.pause
    body["HostConfig"]["Mounts"] = mounts + [
        {"Type": "volume", "Source": volume_of(agent.fargate, task, one["sourceVolume"]), "Target": one["containerPath"], "ReadOnly": one.get("readOnly", False)}
        for one in told.get("mountPoints") or []
    ]
    return body


def variables_of_fargate(agent):
    """What Fargate sets, and where the emulator is, which on AWS nobody needs to be told."""
    region, endpoint = agent.region, agent.fargate.endpoint
    variables = {"AWS_EXECUTION_ENV": "AWS_ECS_FARGATE", "AWS_REGION": region, "AWS_DEFAULT_REGION": region, "AWS_ENDPOINT_URL": endpoint}
    role = (agent.task.overrides or {}).get("taskRoleArn") or getattr(agent.definition, "task_role_arn", None)
    # Without a task role there are no credentials on Fargate either.
    return {**variables, **({"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"} if role else {})}


def limits_of(told, definition, overrides):
    linux = told.get("linuxParameters") or {}
    capabilities = linux.get("capabilities") or {}
    memory, units = size_of(definition, overrides, "memory"), size_of(definition, overrides, "cpu")
    own = told.get("memory") or memory
    most = min(own, memory or own) * MIB
    return {
        "Memory": most, "MemorySwap": most, "MemoryReservation": (told.get("memoryReservation") or 0) * MIB,
        "NanoCpus": units * NANO // 1024, "CpuShares": max(2, told.get("cpu") or 2),
        "Init": bool(linux.get("initProcessEnabled")), "ReadonlyRootfs": bool(told.get("readonlyRootFilesystem")),
        "CapDrop": capabilities.get("drop") or [], "CapAdd": capabilities.get("add") or [],
        "Ulimits": [{"Name": one["name"], "Soft": one["softLimit"], "Hard": one["hardLimit"]} for one in told.get("ulimits") or []],
        "LogConfig": {"Type": "json-file", "Config": {}},
    }


def health_check_of(told, pace):
    """Defaults as of the Amazon ECS API, HealthCheck. What the image itself declares is not looked at on Fargate."""
    check = told.get("healthCheck")
    if not check:
        return {"Test": ["NONE"]}
    return {
        "Test": check["command"], "Interval": int(check.get("interval", 30) * NANO / pace), "Timeout": check.get("timeout", 5) * NANO,
        "Retries": check.get("retries", 3), "StartPeriod": (check.get("startPeriod") or 0) * NANO,
    }
