"""Somebody else's opinion of what we send: botocore's validators for every request, cfn-lint for every task definition and service.

Reads lines of JSON {"service", "command", "input"} and prints a line for each problem.
    python3 validate.py requests < FILE
    python3 validate.py templates < FILE
"""
import json
import subprocess
import sys
import tempfile

SERVICES = {"codebuild": "codebuild", "ecs": "ecs", "elasticloadbalancing": "elbv2", "logs": "logs", "cloudwatch": "cloudwatch", "s3": "s3", "secretsmanager": "secretsmanager", "ssm": "ssm", "ecr": "ecr", "ec2": "ec2", "iam": "iam", "sts": "sts", "servicequotas": "service-quotas", "tag": "resourcegroupstaggingapi", "application-autoscaling": "application-autoscaling"}
TYPES = {"RegisterTaskDefinition": "AWS::ECS::TaskDefinition", "CreateService": "AWS::ECS::Service"}
# Of the API alone, not of CloudFormation's resource.
NOT_IN_TEMPLATE = {"clientToken"}
# Maps whose keys are the user's.
FREE_KEYS = {"options"}


def requests(calls):
    import botocore.session
    from botocore.validate import ParamValidator

    session = botocore.session.get_session()
    models, validator = {}, ParamValidator()
    for call in calls:
        name = SERVICES[call["service"]]
        model = models.setdefault(name, session.get_service_model(name))
        report = validator.validate(call["input"], model.operation_model(call["command"]).input_shape)
        if report.has_errors():
            print("%s: %s" % (call["command"], report.generate_report()))


def upper(value):
    if isinstance(value, list):
        return [upper(one) for one in value]
    if isinstance(value, dict):
        return {key[0].upper() + key[1:]: (inner if key in FREE_KEYS else upper(inner)) for key, inner in value.items() if key not in NOT_IN_TEMPLATE}
    return value


def templates(calls):
    resources = {}
    for index, call in enumerate(calls):
        if call["command"] in TYPES:
            resources["Sent%d" % index] = {"Type": TYPES[call["command"]], "Properties": upper(call["input"])}
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump({"AWSTemplateFormatVersion": "2010-09-09", "Resources": resources}, file)
        file.flush()
        # W: warnings, such as "do not hard-code an ARN", are about templates and not about what ECS takes.
        ran = subprocess.run(["cfn-lint", "--ignore-checks", "W", "--format", "parseable", "--", file.name], capture_output=True, text=True)
        print(ran.stdout.strip() + ran.stderr.strip())


if __name__ == "__main__":
    {"requests": requests, "templates": templates}[sys.argv[1]]([json.loads(line) for line in sys.stdin])
