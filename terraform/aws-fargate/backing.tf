locals {
  databases = { for name, one in var.backing : name => one if contains(["mariadb", "mysql", "postgres"], one.engine) }
  caches    = { for name, one in var.backing : name => one if contains(["redis", "valkey"], one.engine) }

  engines = {
    mariadb  = { version = "10.11", port = 3306, scheme = "mysql" }
    mysql    = { version = "8.4", port = 3306, scheme = "mysql" }
    postgres = { version = "17", port = 5432, scheme = "postgres" }
    redis    = { version = "7.1", port = 6379, scheme = "rediss" }
    valkey   = { version = "8.0", port = 6379, scheme = "rediss" }
  }

  # shipway.yml says `version: 7`, ElastiCache wants "7.1". RDS takes "10.11" and keeps the patch itself.
  cache_versions = { "7" = "7.1", "8" = "8.0" }

  database_user = "app"
  database_name = "app"

  # user, host and port; what a password belongs into is made of it.
  database_hosts = { for name, one in aws_db_instance.this : name => "${one.address}:${one.port}/${local.database_name}" }
}

resource "aws_security_group" "backing" {
  for_each = var.backing

  name        = "${var.name}-backing-${each.key}"
  description = "Shipway: from tasks to ${each.key}"
  vpc_id      = aws_vpc.this.id
  tags        = merge(local.tags, { Name = "${var.name}-backing-${each.key}" })

  ingress {
    description     = "Tasks"
    protocol        = "tcp"
    from_port       = local.engines[each.value.engine].port
    to_port         = local.engines[each.value.engine].port
    security_groups = [aws_security_group.tasks.id]
  }
}

# Passwords: made by Secrets Manager, kept in Secrets Manager, and given to the database from there. The secret comes first and is read back, so that an
# apply that is cut off between the two goes on with the same password. Terraform writes neither into a plan nor into the state.

resource "aws_secretsmanager_secret" "password" {
  for_each = local.databases

  # Not below shipway/, where the driver may delete.
  name        = "${var.name}-backing/${each.key}/password"
  description = "Password of ${local.database_user} in ${var.name}-${each.key}"
  # A name stays taken while its secret can be recovered.
  recovery_window_in_days = var.protect ? 7 : 0
  tags                    = local.tags
}

ephemeral "aws_secretsmanager_random_password" "new" {
  for_each = local.databases

  password_length = 40
  # Safe in a URL without escapes, and RDS refuses some of the others.
  exclude_punctuation = true
}

resource "aws_secretsmanager_secret_version" "password" {
  for_each = local.databases

  secret_id                = aws_secretsmanager_secret.password[each.key].id
  secret_string_wo         = ephemeral.aws_secretsmanager_random_password.new[each.key].random_password
  secret_string_wo_version = each.value.password_version
}

ephemeral "aws_secretsmanager_secret_version" "password" {
  for_each = local.databases

  secret_id  = aws_secretsmanager_secret_version.password[each.key].secret_id
  version_id = aws_secretsmanager_secret_version.password[each.key].version_id
}

resource "aws_db_subnet_group" "this" {
  count = length(local.databases) > 0 ? 1 : 0

  name        = var.name
  description = "Shipway: private subnets"
  subnet_ids  = aws_subnet.private[*].id
  tags        = local.tags
}

resource "aws_db_instance" "this" {
  for_each = local.databases

  identifier          = "${var.name}-${each.key}"
  engine              = each.value.engine
  engine_version      = coalesce(each.value.version, local.engines[each.value.engine].version)
  instance_class      = coalesce(each.value.class, "db.t4g.micro")
  db_name             = local.database_name
  username            = local.database_user
  password_wo         = ephemeral.aws_secretsmanager_secret_version.password[each.key].secret_string
  password_wo_version = each.value.password_version

  storage_type          = "gp3"
  storage_encrypted     = true
  allocated_storage     = each.value.storage_gib
  max_allocated_storage = each.value.max_storage_gib

  multi_az               = each.value.standby
  db_subnet_group_name   = aws_db_subnet_group.this[0].name
  vpc_security_group_ids = [aws_security_group.backing[each.key].id]
  publicly_accessible    = false

  backup_retention_period   = each.value.backup_days
  copy_tags_to_snapshot     = true
  deletion_protection       = var.protect
  skip_final_snapshot       = !var.protect
  final_snapshot_identifier = "${var.name}-${each.key}-final"

  # A change that waits for a maintenance window differs from the code until then, and would be reported as drift every hour.
  apply_immediately = true
  tags              = local.tags
}

resource "aws_elasticache_subnet_group" "this" {
  count = length(local.caches) > 0 ? 1 : 0

  name        = var.name
  description = "Shipway: private subnets"
  subnet_ids  = aws_subnet.private[*].id
  tags        = local.tags
}

# Without a password: an AUTH token could only be given through the state. The security group lets in tasks and nobody else, and the way is encrypted.
resource "aws_elasticache_replication_group" "this" {
  for_each = local.caches

  replication_group_id = "${var.name}-${each.key}"
  description          = "Shipway: ${each.key}"
  engine               = each.value.engine
  engine_version       = try(local.cache_versions[each.value.version], coalesce(each.value.version, local.engines[each.value.engine].version))
  node_type            = coalesce(each.value.class, "cache.t4g.micro")
  port                 = local.engines[each.value.engine].port

  num_cache_clusters         = each.value.standby ? 2 : 1
  automatic_failover_enabled = each.value.standby
  multi_az_enabled           = each.value.standby

  subnet_group_name          = aws_elasticache_subnet_group.this[0].name
  security_group_ids         = [aws_security_group.backing[each.key].id]
  at_rest_encryption_enabled = true
  transit_encryption_enabled = true

  apply_immediately = true
  tags              = local.tags
}

# With passwords_in_outputs the password is read into the state, for the output; without, the whole URL is put into a secret that a task is given directly.

data "aws_secretsmanager_secret_version" "password" {
  for_each = var.passwords_in_outputs ? local.databases : {}

  secret_id  = aws_secretsmanager_secret_version.password[each.key].secret_id
  version_id = aws_secretsmanager_secret_version.password[each.key].version_id
}

resource "aws_secretsmanager_secret" "url" {
  for_each = var.passwords_in_outputs ? {} : local.databases

  name                    = "${var.name}-backing/${each.key}/url"
  description             = "Address of ${var.name}-${each.key}, password included"
  recovery_window_in_days = var.protect ? 7 : 0
  tags                    = local.tags
}

resource "aws_secretsmanager_secret_version" "url" {
  for_each = var.passwords_in_outputs ? {} : local.databases

  secret_id                = aws_secretsmanager_secret.url[each.key].id
  secret_string_wo         = "${local.engines[each.value.engine].scheme}://${local.database_user}:${ephemeral.aws_secretsmanager_secret_version.password[each.key].secret_string}@${local.database_hosts[each.key]}"
  secret_string_wo_version = each.value.password_version
}
