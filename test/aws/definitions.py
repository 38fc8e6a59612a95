"""What RegisterTaskDefinition refuses of containers, as the Amazon ECS API reference has it (ContainerDefinition, ContainerDependency); moto takes all of it."""


def problem_of(containers):
    """The first thing that is wrong; the words are ours, AWS's are not known."""
    by_name = {one.get("name"): one for one in containers}
    if len(by_name) < len(containers):
        return "Container names must be unique."
    if not any(is_essential(one) for one in containers):
        return "A task definition must have at least one essential container."
    for one in containers:
        versioned = next((secret["name"] for secret in one.get("secrets") or [] if names_version(secret["valueFrom"])), None)
        if versioned:
            return "The Systems Manager parameter name specified for secret %s is invalid." % versioned
        for need in one.get("dependsOn") or []:
            problem = problem_of_need(one["name"], need, by_name.get(need["containerName"]))
            if problem:
                return problem
    return "The dependencies of the containers go in a circle." if has_circle(by_name) else None


def names_version(value_from):
    """Of a parameter, which ECS refuses (aws/containers-roadmap 859)."""
    if not value_from.startswith("arn:"):
        return ":" in value_from
    return ":ssm:" in value_from and value_from.count(":") > 5


def is_essential(container):
    return container.get("essential", True)


def problem_of_need(name, need, other):
    condition = need["condition"]
    if other is None:
        return "%s depends on %s, which is not in the task definition." % (name, need["containerName"])
    if condition in ("COMPLETE", "SUCCESS") and is_essential(other):
        return "%s waits for %s of %s, which cannot be set on an essential container." % (name, condition, other["name"])
    if condition == "HEALTHY" and not other.get("healthCheck"):
        return "%s waits for %s to be HEALTHY, which has no health check." % (name, other["name"])
    return None


def has_circle(by_name):
    started = set()
    while True:
        able = [name for name, one in by_name.items() if name not in started and all(need["containerName"] in started for need in one.get("dependsOn") or [])]
        if not able:
            return len(started) < len(by_name)
        started.update(able)
