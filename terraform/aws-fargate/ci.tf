# Pipeline steps on this cluster: `ci: { steps: ecs }` of shipway.yml. What a step needs and leaves goes through the log bucket, below shipway/, by addresses that
# Shipway signs: a step needs no rights for it.

# Not the group that the apps' tasks carry: what a branch's pipeline runs must reach neither them nor their databases.
resource "aws_security_group" "steps" {
  count = var.steps ? 1 : 0

  name        = "${var.name}-steps"
  description = "Shipway: pipeline steps, reached by nobody"
  vpc_id      = aws_vpc.this.id
  tags        = merge(local.tags, { Name = "${var.name}-steps" })

  egress {
    description = "Registries, AWS, and what pipelines call"
    protocol    = "-1"
    from_port   = 0
    to_port     = 0
    cidr_blocks = ["0.0.0.0/0"]
  }
}

# What scripts of pipelines may do in AWS. Without policies there is no role either, and a step gets no credentials at all.
resource "aws_iam_role" "step" {
  count = var.steps && length(var.step_policy_arns) > 0 ? 1 : 0

  name                 = "${var.name}-step"
  description          = "The pipeline steps of Shipway's apps run with it"
  assume_role_policy   = local.policies["trust-ecs-tasks"]
  permissions_boundary = var.permissions_boundary
  tags                 = local.tags
}

resource "aws_iam_role_policy_attachment" "step" {
  # By place: the ARN of a policy that is made in the same apply is not known yet.
  count = length(aws_iam_role.step) > 0 ? length(var.step_policy_arns) : 0

  role       = aws_iam_role.step[0].name
  policy_arn = var.step_policy_arns[count.index]
}
