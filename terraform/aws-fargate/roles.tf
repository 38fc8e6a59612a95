# The documents lie in policies/ as plain JSON, so that people without Terraform use the very same ones.
locals {
  policies = { for file in fileset("${path.module}/policies", "*.json") :
    trimsuffix(file, ".json") => jsonencode(jsondecode(templatefile("${path.module}/policies/${file}", local.policy_values)))
  }
}

# Starts tasks: pulls images, writes logs, reads the secrets that the driver may only write.
resource "aws_iam_role" "execution" {
  name                 = "${var.name}-exec"
  description          = "ECS starts the tasks of Shipway's apps with it"
  assume_role_policy   = local.policies["trust-ecs-tasks"]
  permissions_boundary = var.permissions_boundary
  tags                 = local.tags
}

resource "aws_iam_role_policy" "execution" {
  name   = "execution"
  role   = aws_iam_role.execution.id
  policy = local.policies["execution"]
}

resource "aws_iam_role_policy" "execution_keys" {
  count = length(var.app_secret_keys) > 0 ? 1 : 0

  name   = "keys"
  role   = aws_iam_role.execution.id
  policy = local.policies["execution-keys"]
}

# What the apps themselves may do: nothing, until a team attaches its own policies.
resource "aws_iam_role" "task" {
  name                 = "${var.name}-task"
  description          = "The tasks of Shipway's apps run with it"
  assume_role_policy   = local.policies["trust-ecs-tasks"]
  permissions_boundary = var.permissions_boundary
  tags                 = local.tags
}

resource "aws_iam_role_policy" "task_exec" {
  count = var.exec ? 1 : 0

  name   = "exec"
  role   = aws_iam_role.task.id
  policy = local.policies["task-exec"]
}

# Shipway itself. Policies of their own, since Shipway may run as a role or user that exists already; more than one, since a policy has at most 6144 characters.
resource "aws_iam_policy" "driver" {
  for_each = merge(
    {
      rollout = "What Shipway needs to run apps on this cluster"
      storage = "What Shipway needs for images, logs, secrets and artifacts"
    },
    var.exec ? { exec = "What Shipway needs to open a shell in a task" } : {},
    var.steps ? { ci = "What Shipway needs to run pipeline steps on this cluster" } : {},
    var.builds ? { build = "What Shipway needs to build images in CodeBuild" } : {},
  )

  name        = "${var.name}-driver-${each.key}"
  description = each.value
  policy      = local.policies["driver-${each.key}"]
  tags        = local.tags
}

resource "aws_iam_role" "driver" {
  count = length(var.driver_principals) > 0 ? 1 : 0

  name        = "${var.name}-driver"
  description = "Shipway runs apps on this cluster with it"
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "Shipway"
      Effect    = "Allow"
      Principal = { AWS = var.driver_principals }
      Action    = "sts:AssumeRole"
    }]
  })
  permissions_boundary = var.permissions_boundary
  tags                 = local.tags
}

resource "aws_iam_role_policy_attachment" "driver" {
  for_each = length(aws_iam_role.driver) > 0 ? aws_iam_policy.driver : {}

  role       = aws_iam_role.driver[0].name
  policy_arn = each.value.arn
}

# Whoever keeps app infrastructure's state in the bucket needs this, and no more.
resource "aws_iam_policy" "state" {
  name        = "${var.name}-terraform-state"
  description = "Terraform states in Shipway's bucket"
  policy      = local.policies["terraform-state"]
  tags        = local.tags
}

# These make a policy that somebody adds to these two roles by hand show up as drift. The task role is left alone: it is the team's.

resource "aws_iam_role_policies_exclusive" "execution" {
  role_name    = aws_iam_role.execution.name
  policy_names = concat([aws_iam_role_policy.execution.name], aws_iam_role_policy.execution_keys[*].name)
}

resource "aws_iam_role_policy_attachments_exclusive" "execution" {
  role_name   = aws_iam_role.execution.name
  policy_arns = []
}

resource "aws_iam_role_policies_exclusive" "driver" {
  count = length(aws_iam_role.driver)

  role_name    = aws_iam_role.driver[0].name
  policy_names = []
}

resource "aws_iam_role_policy_attachments_exclusive" "driver" {
  count = length(aws_iam_role.driver)

  role_name   = aws_iam_role.driver[0].name
  policy_arns = values(aws_iam_role_policy_attachment.driver)[*].policy_arn
}
