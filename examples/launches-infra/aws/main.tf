# Where Launches runs on AWS: a network, a load balancer, a cluster, and the database and cache that its shipway.yml calls `db` and `cache`.

terraform {
  required_version = ">= 1.11"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.100"
    }
  }
}

variable "region" {
  description = "Where in AWS."
  type        = string
  default     = "eu-central-1"
}

variable "certificate_arn" {
  description = "A certificate in ACM for the shop's domain. Without it the shop answers over HTTP only."
  type        = string
  default     = null
}

variable "driver_principals" {
  description = "ARNs of the roles or users that Shipway runs as."
  type        = list(string)
  default     = []
}

variable "protect" {
  description = "Refuse to destroy the database, the buckets and the load balancer."
  type        = bool
  default     = true
}

provider "aws" {
  region = var.region
}

module "shipway" {
  source = "../../../terraform/aws-fargate"

  certificate_arn   = var.certificate_arn
  driver_principals = var.driver_principals
  protect           = var.protect
  tags              = { product = "launches" }

  # As under `backing:` in shipway.yml.
  backing = {
    db    = { engine = "mariadb", version = "10.11" }
    cache = { engine = "redis", version = "7" }
  }
}
