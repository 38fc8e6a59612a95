# What Shipway's ecs runtime reads.

output "region" {
  value = module.shipway.region
}

output "cluster" {
  value = module.shipway.cluster
}

output "vpc_id" {
  value = module.shipway.vpc_id
}

output "subnets" {
  value = module.shipway.subnets
}

output "security_groups" {
  value = module.shipway.security_groups
}

output "assign_public_ip" {
  value = module.shipway.assign_public_ip
}

output "listener_arn" {
  value = module.shipway.listener_arn
}

output "load_balancer_dns" {
  value = module.shipway.load_balancer_dns
}

output "execution_role_arn" {
  value = module.shipway.execution_role_arn
}

output "task_role_arn" {
  value = module.shipway.task_role_arn
}

output "log_prefix" {
  value = module.shipway.log_prefix
}

output "log_bucket" {
  value = module.shipway.log_bucket
}

output "state_bucket" {
  value = module.shipway.state_bucket
}

# What people need: the policies for Shipway, or the role that has them.

output "driver_policy_arns" {
  value = module.shipway.driver_policy_arns
}

output "driver_role_arn" {
  value = module.shipway.driver_role_arn
}

# What the product reads: DB_URL and CACHE_URL.

output "db_url" {
  value     = module.shipway.backing_urls["db"]
  sensitive = true
}

output "cache_url" {
  value     = module.shipway.backing_urls["cache"]
  sensitive = true
}
