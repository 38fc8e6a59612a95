# Shipway itself on this cluster, where a team asks for it: one task of Fargate, its database in RDS, its repositories and logs in EFS.
#
# Nothing here has a name that the driver's policies cover ("shipway-*" services and task definitions, "shipway/*" repositories and secrets, "/shipway/*" log
# groups): what runs apps must not be able to change what runs it.

locals {
  control_plane      = var.control_plane == null ? {} : { this = var.control_plane }
  control_plane_runs = { for key, one in local.control_plane : key => one if one.image != null }
  control_plane_name = "${var.name}-control-plane"
  control_plane_port = 7420
  control_plane_tags = merge(local.tags, { Name = local.control_plane_name })

  # A whole address; with what it takes to trust RDS, which the image brings.
  control_plane_database = { for key, one in aws_db_instance.control_plane : key =>
    "${one.address}:${one.port}/${one.db_name}?sslmode=verify-full&sslrootcert=/opt/shipway/rds.pem"
  }
}

resource "aws_ecr_repository" "control_plane" {
  for_each = local.control_plane

  name                 = local.control_plane_name
  image_tag_mutability = "IMMUTABLE"
  force_delete         = !var.protect
  tags                 = local.control_plane_tags

  image_scanning_configuration {
    scan_on_push = true
  }
}

# --- what it may do

resource "aws_iam_role" "control_plane" {
  for_each = local.control_plane

  name                 = local.control_plane_name
  description          = "Shipway itself runs with it"
  assume_role_policy   = local.policies["trust-ecs-tasks"]
  permissions_boundary = var.permissions_boundary
  tags                 = local.tags
}

resource "aws_iam_role_policy_attachment" "control_plane" {
  for_each = { for name, policy in aws_iam_policy.driver : name => policy if var.control_plane != null }

  role       = aws_iam_role.control_plane["this"].name
  policy_arn = each.value.arn
}

resource "aws_iam_role_policy" "control_plane" {
  for_each = local.control_plane

  name = "control-plane"
  role = aws_iam_role.control_plane[each.key].id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = concat(
      [{
        Sid       = "Files"
        Effect    = "Allow"
        Action    = ["elasticfilesystem:ClientMount", "elasticfilesystem:ClientWrite"]
        Resource  = aws_efs_file_system.control_plane[each.key].arn
        Condition = { StringEquals = { "elasticfilesystem:AccessPointArn" = aws_efs_access_point.control_plane[each.key].arn } }
      }],
      length(each.value.infra_roles) == 0 ? [] : [{
        Sid       = "Infrastructure"
        Effect    = "Allow"
        Action    = ["sts:AssumeRole"]
        Resource  = each.value.infra_roles
        Condition = {}
      }],
    )
  })
}

resource "aws_iam_role" "control_plane_execution" {
  for_each = local.control_plane

  name                 = "${local.control_plane_name}-exec"
  description          = "ECS starts Shipway itself with it"
  assume_role_policy   = local.policies["trust-ecs-tasks"]
  permissions_boundary = var.permissions_boundary
  tags                 = local.tags
}

resource "aws_iam_role_policy" "control_plane_execution" {
  for_each = local.control_plane

  name = "execution"
  role = aws_iam_role.control_plane_execution[each.key].id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      # A login holds for the whole registry; what may be pulled is said by the next.
      { Sid = "EcrLogin", Effect = "Allow", Action = "ecr:GetAuthorizationToken", Resource = "*" },
      {
        Sid      = "EcrPull"
        Effect   = "Allow"
        Action   = ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]
        Resource = aws_ecr_repository.control_plane[each.key].arn
      },
      {
        Sid      = "LogsWrite"
        Effect   = "Allow"
        Action   = ["logs:CreateLogStream", "logs:PutLogEvents"]
        Resource = "${aws_cloudwatch_log_group.control_plane[each.key].arn}:*"
      },
      {
        Sid      = "SecretsRead"
        Effect   = "Allow"
        Action   = "secretsmanager:GetSecretValue"
        Resource = [for secret in ["database-url", "secret-key", "admin-token"] : aws_secretsmanager_secret.control_plane[secret].arn]
      },
    ]
  })
}

# Whatever somebody adds to these two by hand shows up as drift.

resource "aws_iam_role_policies_exclusive" "control_plane" {
  for_each = local.control_plane

  role_name    = aws_iam_role.control_plane[each.key].name
  policy_names = [aws_iam_role_policy.control_plane[each.key].name]
}

resource "aws_iam_role_policy_attachments_exclusive" "control_plane" {
  for_each = local.control_plane

  role_name   = aws_iam_role.control_plane[each.key].name
  policy_arns = values(aws_iam_role_policy_attachment.control_plane)[*].policy_arn
}

resource "aws_iam_role_policies_exclusive" "control_plane_execution" {
  for_each = local.control_plane

  role_name    = aws_iam_role.control_plane_execution[each.key].name
  policy_names = [aws_iam_role_policy.control_plane_execution[each.key].name]
}

resource "aws_iam_role_policy_attachments_exclusive" "control_plane_execution" {
  for_each = local.control_plane

  role_name   = aws_iam_role.control_plane_execution[each.key].name
  policy_arns = []
}

# --- what it is told: made once, by Secrets Manager, and in no plan and no state

resource "aws_secretsmanager_secret" "control_plane" {
  for_each = var.control_plane == null ? {} : {
    database-password = "Password of Shipway's own database"
    database-url      = "Address of Shipway's own database, password included"
    secret-key        = "Opens the secrets that Shipway keeps. Without it they are gone"
    admin-token       = "The first admin token of Shipway"
  }

  name        = "${local.control_plane_name}/${each.key}"
  description = each.value
  # A name stays taken while its secret can be recovered.
  recovery_window_in_days = var.protect ? 30 : 0
  tags                    = local.tags
}

ephemeral "aws_secretsmanager_random_password" "control_plane" {
  for_each = var.control_plane == null ? {} : { database-password = 40, secret-key = 32, admin-token = 44 }

  password_length     = each.value
  exclude_punctuation = true
}

resource "aws_secretsmanager_secret_version" "control_plane" {
  for_each = var.control_plane == null ? toset([]) : toset(["database-password", "secret-key", "admin-token"])

  secret_id = aws_secretsmanager_secret.control_plane[each.key].id
  # The key is 32 bytes as base64, 190 bits of them drawn.
  secret_string_wo = each.key == "secret-key" ? base64encode(ephemeral.aws_secretsmanager_random_password.control_plane[each.key].random_password) : (
    each.key == "admin-token" ? "shw_${ephemeral.aws_secretsmanager_random_password.control_plane[each.key].random_password}" :
    ephemeral.aws_secretsmanager_random_password.control_plane[each.key].random_password
  )
  secret_string_wo_version = 1
}

ephemeral "aws_secretsmanager_secret_version" "control_plane" {
  for_each = local.control_plane

  secret_id  = aws_secretsmanager_secret_version.control_plane["database-password"].secret_id
  version_id = aws_secretsmanager_secret_version.control_plane["database-password"].version_id
}

resource "aws_secretsmanager_secret_version" "control_plane_database" {
  for_each = local.control_plane

  secret_id                = aws_secretsmanager_secret.control_plane["database-url"].id
  secret_string_wo         = "postgres://shipway:${ephemeral.aws_secretsmanager_secret_version.control_plane[each.key].secret_string}@${local.control_plane_database[each.key]}"
  secret_string_wo_version = 1
}

# --- its database

resource "aws_security_group" "control_plane" {
  for_each = local.control_plane

  name        = local.control_plane_name
  description = "Shipway: Shipway itself, reached by the load balancer"
  vpc_id      = aws_vpc.this.id
  tags        = local.control_plane_tags

  ingress {
    description     = "The load balancer"
    protocol        = "tcp"
    from_port       = local.control_plane_port
    to_port         = local.control_plane_port
    security_groups = [aws_security_group.load_balancer.id]
  }
  egress {
    description = "AWS, registries, repositories, and what it notifies"
    protocol    = "-1"
    from_port   = 0
    to_port     = 0
    cidr_blocks = ["0.0.0.0/0"]
  }
}

# One for the database and the files: both are reached by Shipway itself and nobody else.
resource "aws_security_group" "control_plane_data" {
  for_each = local.control_plane

  name        = "${local.control_plane_name}-data"
  description = "Shipway: from Shipway itself to its database and its files"
  vpc_id      = aws_vpc.this.id
  tags        = merge(local.tags, { Name = "${local.control_plane_name}-data" })

  dynamic "ingress" {
    for_each = { PostgreSQL = 5432, NFS = 2049 }
    content {
      description     = ingress.key
      protocol        = "tcp"
      from_port       = ingress.value
      to_port         = ingress.value
      security_groups = [aws_security_group.control_plane[each.key].id]
    }
  }
}

resource "aws_db_subnet_group" "control_plane" {
  for_each = local.control_plane

  name        = local.control_plane_name
  description = "Shipway: private subnets"
  subnet_ids  = aws_subnet.private[*].id
  tags        = local.tags
}

resource "aws_db_instance" "control_plane" {
  for_each = local.control_plane

  identifier          = local.control_plane_name
  engine              = "postgres"
  engine_version      = "17"
  instance_class      = each.value.database_class
  db_name             = "shipway"
  username            = "shipway"
  password_wo         = ephemeral.aws_secretsmanager_secret_version.control_plane[each.key].secret_string
  password_wo_version = 1

  storage_type          = "gp3"
  storage_encrypted     = true
  allocated_storage     = 20
  max_allocated_storage = 100

  multi_az               = each.value.database_standby
  db_subnet_group_name   = aws_db_subnet_group.control_plane[each.key].name
  vpc_security_group_ids = [aws_security_group.control_plane_data[each.key].id]
  publicly_accessible    = false

  backup_retention_period   = each.value.backup_days
  copy_tags_to_snapshot     = true
  deletion_protection       = var.protect
  skip_final_snapshot       = !var.protect
  final_snapshot_identifier = "${local.control_plane_name}-final"

  # A change that waits for a maintenance window would be reported as drift until then.
  apply_immediately = true
  tags              = local.tags
}

# --- its files: git repositories, logs, folders of infra runs

resource "aws_efs_file_system" "control_plane" {
  for_each = local.control_plane

  creation_token = local.control_plane_name
  encrypted      = true
  # By use: git and logs come in bursts, and the credits of "bursting" grow with the size, which is small.
  throughput_mode = "elastic"
  tags            = local.control_plane_tags
}

resource "aws_efs_backup_policy" "control_plane" {
  for_each = local.control_plane

  file_system_id = aws_efs_file_system.control_plane[each.key].id
  backup_policy {
    status = each.value.backup_days > 0 ? "ENABLED" : "DISABLED"
  }
}

resource "aws_efs_mount_target" "control_plane" {
  count = var.control_plane == null ? 0 : var.zones

  file_system_id  = aws_efs_file_system.control_plane["this"].id
  subnet_id       = aws_subnet.private[count.index].id
  security_groups = [aws_security_group.control_plane_data["this"].id]
}

resource "aws_efs_access_point" "control_plane" {
  for_each = local.control_plane

  file_system_id = aws_efs_file_system.control_plane[each.key].id
  tags           = local.control_plane_tags

  # The user "node" of the image.
  posix_user {
    uid = 1000
    gid = 1000
  }
  root_directory {
    path = "/shipway"
    creation_info {
      owner_uid   = 1000
      owner_gid   = 1000
      permissions = "0700"
    }
  }
}

resource "aws_efs_file_system_policy" "control_plane" {
  for_each = local.control_plane

  file_system_id = aws_efs_file_system.control_plane[each.key].id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid       = "ShipwayItself"
        Effect    = "Allow"
        Principal = { AWS = aws_iam_role.control_plane[each.key].arn }
        Action    = ["elasticfilesystem:ClientMount", "elasticfilesystem:ClientWrite"]
        Resource  = aws_efs_file_system.control_plane[each.key].arn
        Condition = { StringEquals = { "elasticfilesystem:AccessPointArn" = aws_efs_access_point.control_plane[each.key].arn } }
      },
      {
        Sid       = "OnlyTls"
        Effect    = "Deny"
        Principal = { AWS = "*" }
        Action    = "*"
        Resource  = aws_efs_file_system.control_plane[each.key].arn
        Condition = { Bool = { "aws:SecureTransport" = "false" } }
      },
    ]
  })
}

# --- the way in

resource "aws_lb_target_group" "control_plane" {
  for_each = local.control_plane

  # At most 32 characters.
  name                 = "${var.name}-control"
  vpc_id               = aws_vpc.this.id
  target_type          = "ip"
  protocol             = "HTTP"
  port                 = local.control_plane_port
  deregistration_delay = 15
  tags                 = local.tags

  health_check {
    path                = "/api/ready"
    interval            = 10
    timeout             = 5
    healthy_threshold   = 2
    unhealthy_threshold = 3
    matcher             = "200"
  }
}

# The first of all rules: no app can take this name by declaring it as its own. Shipway's own begin at 1000.
resource "aws_lb_listener_rule" "control_plane" {
  for_each = local.control_plane

  listener_arn = aws_lb_listener.https[0].arn
  priority     = 1
  tags         = local.tags

  action {
    type             = "forward"
    target_group_arn = aws_lb_target_group.control_plane[each.key].arn
  }
  condition {
    host_header {
      values = [each.value.domain]
    }
  }
  dynamic "condition" {
    for_each = length(each.value.allowed_cidrs) == 0 ? [] : [each.value.allowed_cidrs]
    content {
      source_ip {
        values = condition.value
      }
    }
  }
}

resource "aws_lb_listener_certificate" "control_plane" {
  for_each = { for key, one in local.control_plane : key => one if one.certificate_arn != null }

  listener_arn    = aws_lb_listener.https[0].arn
  certificate_arn = each.value.certificate_arn
}

# --- and the task

resource "aws_cloudwatch_log_group" "control_plane" {
  for_each = local.control_plane

  name              = "/${local.control_plane_name}"
  retention_in_days = each.value.log_days
  tags              = local.tags
}

resource "aws_ecs_task_definition" "control_plane" {
  for_each = local.control_plane_runs

  family                   = "control-plane-${var.name}"
  requires_compatibilities = ["FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = each.value.cpu
  memory                   = each.value.memory
  execution_role_arn       = aws_iam_role.control_plane_execution[each.key].arn
  task_role_arn            = aws_iam_role.control_plane[each.key].arn
  tags                     = local.tags

  runtime_platform {
    operating_system_family = "LINUX"
    cpu_architecture        = each.value.architecture
  }

  volume {
    name = "data"
    efs_volume_configuration {
      file_system_id     = aws_efs_file_system.control_plane[each.key].id
      transit_encryption = "ENABLED"
      authorization_config {
        access_point_id = aws_efs_access_point.control_plane[each.key].id
        iam             = "ENABLED"
      }
    }
  }

  container_definitions = jsonencode([{
    name         = "shipway"
    image        = each.value.image
    essential    = true
    portMappings = [{ containerPort = local.control_plane_port, hostPort = local.control_plane_port, protocol = "tcp" }]
    mountPoints  = [{ containerPath = "/data", sourceVolume = "data", readOnly = false }]
    environment  = [for name in sort(keys(local.control_plane_environment)) : { name = name, value = local.control_plane_environment[name] }]
    secrets = [
      { name = "DATABASE_URL", valueFrom = aws_secretsmanager_secret.control_plane["database-url"].arn },
      { name = "SHIPWAY_FIRST_TOKEN", valueFrom = aws_secretsmanager_secret.control_plane["admin-token"].arn },
      { name = "SHIPWAY_SECRET_KEY", valueFrom = aws_secretsmanager_secret.control_plane["secret-key"].arn },
    ]
    healthCheck = {
      command     = ["CMD", "node", "-e", "fetch('http://127.0.0.1:${local.control_plane_port}/api/ready').then((answer) => process.exit(answer.ok ? 0 : 1), () => process.exit(1))"]
      interval    = 30
      timeout     = 10
      retries     = 5
      startPeriod = 300
    }
    # Fargate's most: an apply of Terraform that is at work may end what it is at.
    stopTimeout     = 120
    linuxParameters = { initProcessEnabled = true }
    logConfiguration = {
      logDriver = "awslogs"
      options = {
        awslogs-group         = aws_cloudwatch_log_group.control_plane[each.key].name
        awslogs-region        = local.region
        awslogs-stream-prefix = "shipway"
      }
    }
  }])

  # A task that starts before its address is there would not start.
  depends_on = [aws_secretsmanager_secret_version.control_plane, aws_secretsmanager_secret_version.control_plane_database]
}

locals {
  control_plane_environment = var.control_plane == null ? {} : merge(
    { AWS_REGION = local.region },
    var.control_plane.environment,
    { SHIPWAY_URL = "https://${var.control_plane.domain}" },
  )
}

resource "aws_ecs_service" "control_plane" {
  for_each = local.control_plane_runs

  name            = "control-plane"
  cluster         = aws_ecs_cluster.this.arn
  task_definition = aws_ecs_task_definition.control_plane[each.key].arn
  launch_type     = "FARGATE"
  desired_count   = 1
  propagate_tags  = "SERVICE"
  tags            = local.tags

  # The old task ends before the new one begins: one database takes one Shipway. Apps serve on meanwhile, and pushes wait.
  deployment_minimum_healthy_percent = 0
  deployment_maximum_percent         = 100
  # A start may wait two and a half minutes for a predecessor that is slow to end.
  health_check_grace_period_seconds = 300
  availability_zone_rebalancing     = "DISABLED"

  deployment_circuit_breaker {
    enable   = true
    rollback = true
  }

  network_configuration {
    subnets          = local.task_subnets
    security_groups  = [aws_security_group.control_plane[each.key].id]
    assign_public_ip = var.egress == "public"
  }

  load_balancer {
    target_group_arn = aws_lb_target_group.control_plane[each.key].arn
    container_name   = "shipway"
    container_port   = local.control_plane_port
  }

  # A target group must hang on a listener before a service may use it; the roles and the files must be there before the first task.
  depends_on = [
    aws_lb_listener_rule.control_plane,
    aws_efs_mount_target.control_plane,
    aws_efs_file_system_policy.control_plane,
    aws_iam_role_policy.control_plane,
    aws_iam_role_policy.control_plane_execution,
    aws_iam_role_policy_attachment.control_plane,
  ]
}
