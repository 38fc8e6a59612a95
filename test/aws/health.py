"""What a load balancer does to the targets that ECS registers: it asks them, judges them, and drains them."""
import http.client
import socket
import threading
import time

from account import ip_of, lock
from targets import Target, group_of, groups, targets_of

# A check that is due more often than this measures the machine.
LEAST_INTERVAL_SECONDS = 0.2


def register(task, pace):
    """A task's targets, before it is RUNNING. An address that is still drained for an earlier task is taken over."""
    for balancer in task.service.load_balancers if task.service is not None else []:
        arn, ip = balancer["targetGroupArn"], ip_of(task)
        target = Target(ip, balancer["containerPort"], task=task.id)
        targets_of(arn)[ip] = target
        threading.Thread(target=watch, args=(arn, target, pace), daemon=True).start()


def own_targets(task):
    """(target group ARN, target) of a task."""
    return [(arn, target) for arn, group in groups.items() for target in list(group.values()) if target.task == task.id]


def is_registered(task):
    return len(own_targets(task)) > 0


def deregister(task, pace):
    """The target is `draining` for the whole delay, whatever its connections do, and then gone (Elastic Load Balancing guide, deregistration delay)."""
    for arn, target in own_targets(task):
        target.say("draining", "Target.DeregistrationInProgress", "Target deregistration is in progress")
        group = group_of(arn)
        seconds = int(group.attributes["deregistration_delay.timeout_seconds"]) / pace if group else 0
        threading.Timer(seconds, forget, args=(groups[arn], target)).start()


def forget(group, target):
    with lock:
        if group.get(target.ip) is target:
            del group[target.ip]
    for connection in list(target.connections):
        try:
            connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # it ended by itself


def watch(arn, target, pace):
    """Asks a target as its group says, live, until it is drained. One good answer makes a new target healthy; after that the thresholds count."""
    good = bad = 0
    while True:
        with lock:
            group = group_of(arn)
            if group is None or targets_of(arn).get(target.ip) is not target or target.state == "draining":
                return
            settings = vars(group).copy()
        problem = ask(target, settings)
        good, bad = (good + 1, 0) if problem is None else (0, bad + 1)
        with lock:
            if target.state == "draining":
                return
            if problem is None and (target.state == "initial" or good >= int(settings["healthy_threshold_count"])):
                target.say("healthy")
            elif problem is not None and bad >= int(settings["unhealthy_threshold_count"]):
                target.say("unhealthy", *problem)
            elif target.state == "initial":
                target.say("initial", "Elb.InitialHealthChecking", "Initial health checks in progress")
        time.sleep(max(LEAST_INTERVAL_SECONDS, int(settings["health_check_interval_seconds"]) / pace))


def ask(target, settings):
    """Reason code and description when the answer is not good; the words are those of Elastic Load Balancing's API, TargetHealth."""
    port = target.port if settings["health_check_port"] in (None, "traffic-port") else int(settings["health_check_port"])
    connection = http.client.HTTPConnection(target.ip, port, timeout=int(settings["health_check_timeout_seconds"]))
    try:
        connection.request("GET", settings["health_check_path"] or "/", headers={"User-Agent": "ELB-HealthChecker/2.0", "Connection": "close"})
        status = connection.getresponse().status
    except TimeoutError:
        return ("Target.Timeout", "Request timed out")
    except (OSError, http.client.HTTPException):
        return ("Target.FailedHealthChecks", "Health checks failed")
    finally:
        connection.close()
    if any(low <= status <= high for low, high in ranges_of(settings["matcher"].get("HttpCode", "200"))):
        return None
    return ("Target.ResponseCodeMismatch", "Health checks failed with these codes: [%d]" % status)


def ranges_of(matcher):
    for part in str(matcher).split(","):
        low, _, high = part.partition("-")
        yield int(low), int(high or low)
