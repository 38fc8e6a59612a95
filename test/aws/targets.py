"""Target groups as the load balancer sees them: who is registered, how healthy, and whether a rule leads there."""
from moto.elbv2 import models as elb

from account import lock


class Target:
    def __init__(self, ip, port, task=None):
        self.ip, self.port, self.task = ip, port, task
        # Of requests in flight.
        self.connections = set()
        self.say("initial", "Elb.RegistrationInProgress", "Target registration is in progress")

    def say(self, state, reason=None, description=None):
        self.state, self.reason, self.description = state, reason, description


# Target group ARN -> {ip: Target}. Tasks are the only targets, and a service's tasks have one port.
groups = {}


def targets_of(group_arn):
    return groups.setdefault(group_arn, {})


def group_of(group_arn):
    """moto's target group: its settings as they are now."""
    return next((backend.target_groups[group_arn] for regions in list(elb.elbv2_backends.values()) for backend in list(regions.values()) if group_arn in backend.target_groups), None)


def balancers():
    for regions in list(elb.elbv2_backends.values()):
        for backend in list(regions.values()):
            for balancer in list(backend.load_balancers.values()):
                yield backend, balancer


def listeners():
    for backend, balancer in balancers():
        for listener in list(balancer.listeners.values()):
            yield backend, listener


def weights_of(action):
    """(target group ARN, weight) of a forward action."""
    if action.data.get("TargetGroupArn") and not action.data.get("ForwardConfig"):
        return [(action.data["TargetGroupArn"], 1)]
    return [(one["TargetGroupArn"], int(one.get("Weight", 1))) for one in (action.data.get("ForwardConfig") or {}).get("TargetGroups") or []]


def _weights(group_arn):
    return [
        weight
        for _, listener in listeners() for rule in listener.rules.values() for action in rule.actions
        for arn, weight in weights_of(action) if arn == group_arn
    ]


def has_traffic(group_arn):
    return any(weight > 0 for weight in _weights(group_arn))


def is_attached(group_arn):
    return len(_weights(group_arn)) > 0


def matching_rule(listener, matches):
    """The first rule, by priority, all of whose conditions match."""
    rules = [rule for rule in listener.rules.values() if rule.priority != "default"]
    for rule in sorted(rules, key=lambda one: int(one.priority)):
        if all(matches(condition) for condition in rule.conditions):
            return rule
    return None


def describe_target_health(self, target_group_arn, targets_asked):
    if target_group_arn not in self.target_groups:
        raise elb.TargetGroupNotFoundError()
    with lock:
        return [elb.FakeHealthStatus(one.ip, one.port, str(one.port), one.state, one.reason, one.description) for one in targets_of(target_group_arn).values()]


elb.ELBv2Backend.describe_target_health = describe_target_health
