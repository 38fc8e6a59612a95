output "region" {
  description = "The region all of this is in."
  value       = local.region
}

output "cluster" {
  description = "The ECS cluster's name."
  value       = aws_ecs_cluster_capacity_providers.this.cluster_name
}

output "vpc_id" {
  description = "The VPC; target groups are made in it."
  value       = aws_vpc.this.id
}

output "subnets" {
  description = "Where tasks run."
  value       = local.task_subnets
}

output "security_groups" {
  description = "What tasks carry."
  value       = [aws_security_group.tasks.id]
}

output "assign_public_ip" {
  description = "Whether tasks ask for a public address; without one they could not fetch their image from a public subnet."
  value       = var.egress == "public"
}

output "exec" {
  description = "Whether commands may be run inside tasks: Shipway turns ECS Exec on where this is true."
  value       = var.exec
}

output "listener_arn" {
  description = "The listener Shipway adds its rules to: HTTPS where there is a certificate, else HTTP."
  value       = local.https ? aws_lb_listener.https[0].arn : aws_lb_listener.http.arn
}

output "load_balancer_dns" {
  description = "The load balancer's own name; point your domains at it."
  value       = aws_lb.this.dns_name
}

output "execution_role_arn" {
  description = "What ECS uses to start a task: pull its image, write its logs, read its secrets."
  value       = aws_iam_role.execution.arn
}

output "task_role_arn" {
  description = "What the app itself may do in AWS. Nothing, until you attach policies."
  value       = aws_iam_role.task.arn
}

output "log_prefix" {
  description = "Log groups are made below it."
  value       = local.log_prefix
}

output "log_bucket" {
  description = "Access logs, and below shipway/ what Shipway stores."
  value       = aws_s3_bucket.logs.id
}

output "work_bucket" {
  description = "What CI hands over in AWS, below shipway/: the log bucket."
  value       = aws_s3_bucket.logs.id
}

output "state_bucket" {
  description = "For Terraform states: versioned, encrypted, with use_lockfile for locks."
  value       = aws_s3_bucket.state.id
}

output "load_balancer_zone_id" {
  description = "For alias records of domains in zones of your own."
  value       = aws_lb.this.zone_id
}

output "driver_policy_arns" {
  description = "What Shipway itself needs: attach them to the role or user it runs as."
  value       = values(aws_iam_policy.driver)[*].arn
}

output "driver_role_arn" {
  description = "A role with these policies, which driver_principals may assume; null without any."
  value       = one(aws_iam_role.driver[*].arn)
}

output "state_policy_arn" {
  description = "Reading and writing states in the state bucket, and nothing else."
  value       = aws_iam_policy.state.arn
}

output "private_subnets" {
  description = "Subnets without addresses of the internet, for what you add yourself."
  value       = aws_subnet.private[*].id
}

output "step_security_groups" {
  description = "What pipeline steps carry; null without steps."
  value       = var.steps ? aws_security_group.steps[*].id : null
}

output "step_role" {
  description = "What scripts of pipelines may do in AWS; null without step_policy_arns."
  value       = one(aws_iam_role.step[*].arn)
}

output "build_project" {
  description = "The CodeBuild project that builds images; null without builds."
  value       = one(aws_codebuild_project.images[*].name)
}

output "backing_urls" {
  description = "The address of each of backing, as its app takes it: mysql://…, postgres://…, rediss://…. Without passwords_in_outputs, no password is in it."
  sensitive   = true
  value = merge(
    { for name, one in local.databases : name =>
      "${local.engines[one.engine].scheme}://${local.database_user}${var.passwords_in_outputs ? ":${data.aws_secretsmanager_secret_version.password[name].secret_string}" : ""}@${local.database_hosts[name]}"
    },
    { for name, one in local.caches : name =>
      "${local.engines[one.engine].scheme}://${aws_elasticache_replication_group.this[name].primary_endpoint_address}:${local.engines[one.engine].port}"
    },
  )
}

output "backing_secret_arns" {
  description = "Of each database, the secret that holds its URL (without passwords_in_outputs) or its password."
  value       = { for name in keys(local.databases) : name => var.passwords_in_outputs ? aws_secretsmanager_secret.password[name].arn : aws_secretsmanager_secret.url[name].arn }
}

output "control_plane_url" {
  description = "Where Shipway itself answers; null without control_plane."
  value       = try("https://${var.control_plane.domain}", null)
}

output "control_plane_repository" {
  description = "The repository for the image of Shipway itself; null without control_plane."
  value       = one(values(aws_ecr_repository.control_plane)[*].repository_url)
}

output "control_plane_token_secret" {
  description = "The secret that holds the first admin token; null without control_plane."
  value       = one([for name, secret in aws_secretsmanager_secret.control_plane : secret.arn if name == "admin-token"])
}

output "control_plane_role_arn" {
  description = "The role that Shipway itself has, for the trust policies of infra_roles; null without control_plane."
  value       = one(values(aws_iam_role.control_plane)[*].arn)
}

output "control_plane_log_group" {
  description = "The log of Shipway itself; null without control_plane."
  value       = one(values(aws_cloudwatch_log_group.control_plane)[*].name)
}
