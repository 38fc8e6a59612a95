# For teams without a machine to build on: `ci: { images: codebuild }` of shipway.yml. A build takes its context from the log bucket, below shipway/images/, and pushes to ECR.

locals {
  build_name = "${var.name}-images"

  # The images that AWS keeps for CodeBuild on Amazon Linux 2023: Docker with buildx, Python and the AWS command line are in them.
  build_machines = {
    x86_64 = { type = "LINUX_CONTAINER", image = "aws/codebuild/amazonlinux-x86_64-standard:5.0" }
    arm64  = { type = "ARM_CONTAINER", image = "aws/codebuild/amazonlinux-aarch64-standard:3.0" }
  }
  build_machine = local.build_machines[var.build_architecture]

  # What CloudWatch takes for a retention.
  retentions = [1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653]
}

resource "aws_codebuild_project" "images" {
  count = var.builds ? 1 : 0

  name                   = local.build_name
  description            = "Builds the images of Shipway's apps; Shipway starts each build and says what it does"
  service_role           = aws_iam_role.build[0].arn
  build_timeout          = var.build_timeout_minutes
  queued_timeout         = 60
  concurrent_build_limit = var.build_limit
  tags                   = local.tags

  # Each build names a folder below this one, and what is to be done in it.
  source {
    type      = "S3"
    location  = "${aws_s3_bucket.logs.id}/shipway/images/"
    buildspec = "version: 0.2\nphases: { build: { commands: [exit 1] } }\n"
  }
  artifacts {
    type = "NO_ARTIFACTS"
  }
  environment {
    type                        = local.build_machine.type
    image                       = local.build_machine.image
    image_pull_credentials_type = "CODEBUILD"
    compute_type                = var.build_compute_type
    # Docker runs inside of the build, which has a machine of its own that is thrown away.
    privileged_mode = true

    dynamic "environment_variable" {
      for_each = var.buildkit_image == null ? [] : [var.buildkit_image]
      content {
        name  = "SHIPWAY_BUILDKIT_IMAGE"
        value = environment_variable.value
      }
    }
  }
  logs_config {
    cloudwatch_logs {
      group_name = aws_cloudwatch_log_group.build[0].name
    }
  }
}

resource "aws_cloudwatch_log_group" "build" {
  count = var.builds ? 1 : 0

  name              = "/aws/codebuild/${local.build_name}"
  retention_in_days = min([for days in local.retentions : days if days >= min(var.log_days, 3653)]...)
  tags              = local.tags
}

# What a Dockerfile's commands could get hold of at most: contexts of builds, and pushing to Shipway's own repositories.
resource "aws_iam_role" "build" {
  count = var.builds ? 1 : 0

  name                 = "${var.name}-build"
  description          = "CodeBuild builds the images of Shipway's apps with it"
  assume_role_policy   = local.policies["trust-codebuild"]
  permissions_boundary = var.permissions_boundary
  tags                 = local.tags
}

resource "aws_iam_role_policy" "build" {
  count = var.builds ? 1 : 0

  name   = "build"
  role   = aws_iam_role.build[0].id
  policy = local.policies["build"]
}

# As of the execution role: what somebody adds by hand shows up as drift.
resource "aws_iam_role_policies_exclusive" "build" {
  count = var.builds ? 1 : 0

  role_name    = aws_iam_role.build[0].name
  policy_names = [aws_iam_role_policy.build[0].name]
}

resource "aws_iam_role_policy_attachments_exclusive" "build" {
  count = var.builds ? 1 : 0

  role_name   = aws_iam_role.build[0].name
  policy_arns = []
}
