"""What the parts of the stand-in share: the lock, moto's accounts, log groups and secrets in them."""
import json
import threading

from moto.ecs import models as ecs
from moto.logs.models import logs_backends
from moto.secretsmanager.exceptions import InvalidRequestException
from moto.secretsmanager.models import SecretsManagerBackend, secretsmanager_backends
from moto.ssm.models import ssm_backends

# moto's own structures know no locks: whoever reads or changes them holds this one, and does nothing slow meanwhile.
lock = threading.RLock()


def backends():
    for account, regions in list(ecs.ecs_backends.items()):
        for region, backend in list(regions.items()):
            yield account, region, backend


def definition_of(backend, task):
    """What a task was started from: it goes on when the definition is deleted."""
    if not hasattr(task, "definition"):
        task.definition = backend.describe_task_definition(task.task_definition_arn)
    return task.definition


def ip_of(task):
    return next(one["value"] for one in task.attachments[0]["details"] if one["name"] == "privateIPv4Address")


def log_stream_of(task, container):
    """Group and stream of a container's awslogs driver; None with another driver or none."""
    options = (container.get("logConfiguration") or {}).get("options") or {}
    if "awslogs-group" not in options:
        return None
    return options["awslogs-group"], "%s/%s/%s" % (options.get("awslogs-stream-prefix"), container["name"], task.id)


def put_log_lines(account, region, group, stream, lines):
    """Lines are (milliseconds, text)."""
    backend = logs_backends[account][region]
    if group in backend.groups:  # else it was removed while a line was on its way
        backend.ensure_log_stream(group, stream)
        backend.put_log_events(group, stream, [{"timestamp": at, "message": text} for at, text in lines])


def log_group_problem(account, region, container):
    options = (container.get("logConfiguration") or {}).get("options") or {}
    group, groups = options.get("awslogs-group"), logs_backends[account][region].groups
    if not group or group in groups:
        return None
    if options.get("awslogs-create-group") == "true":
        logs_backends[account][region].create_log_group(group, {})
        return None
    return "ResourceInitializationError: failed to validate logger args: The specified log group does not exist."


_create_secret = SecretsManagerBackend.create_secret


def create_secret(self, name, *args, **kwargs):
    # moto gives back a deleted secret as if it were there when the token is the same.
    if name in self.secrets and self.secrets[name].is_deleted():
        raise InvalidRequestException("You can't create this secret because a secret with this name is already scheduled for deletion.")
    return _create_secret(self, name, *args, **kwargs)


SecretsManagerBackend.create_secret = create_secret


class NoSecret(Exception):
    pass


def secret_value(account, region, value_from):
    """What `valueFrom` names: arn:…:secret:NAME[:KEY:STAGE:VERSION], arn:…:parameter/NAME, or a parameter's name in this region."""
    parts = value_from.split(":")
    if len(parts) < 6 or parts[2] == "ssm":
        return _parameter(account, parts[3] if len(parts) >= 6 else region, value_from)
    arn, (key, stage, version) = ":".join(parts[:7]), (parts[7:] + ["", "", ""])[:3]
    found = next((one for one in secretsmanager_backends[account][parts[3]].secrets.values() if one.arn == arn), None)
    versions = found.versions if found is not None and not found.is_deleted() else {}
    wanted = version or next((name for name, one in versions.items() if (stage or "AWSCURRENT") in one["version_stages"]), None)
    if wanted not in versions:
        raise NoSecret("%s is not there in that version" % value_from)
    text = versions[wanted].get("secret_string")
    if not key:
        return text
    values = json.loads(text)
    if key not in values:
        raise NoSecret("retrieved secret from Secrets Manager did not contain json key %s" % key)
    return values[key] if isinstance(values[key], str) else json.dumps(values[key])


def _parameter(account, region, value_from):
    name = value_from.split(":parameter", 1)[-1]
    backend = ssm_backends[account][region]
    # An ARN does not say whether the name begins with a slash.
    found = backend.get_parameter(name) or backend.get_parameter(name.lstrip("/"))
    if found is None:
        raise NoSecret("invalid ssm parameters: %s" % value_from)
    return found.decrypt(found.value)


def environment_of(account, region, container):
    """A container's variables, its secrets' values among them, as the agent injects them."""
    values = {one["name"]: one["value"] for one in container.get("environment") or []}
    for secret in container.get("secrets") or []:
        values[secret["name"]] = secret_value(account, region, secret["valueFrom"])
    return values
