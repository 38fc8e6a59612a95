# What Launches needs beside its own code, on the machine that Shipway runs on: a database, a cache, and a setting.
# Server and token come from Shipway itself, which runs this.

terraform {
  required_version = ">= 1.11"
  required_providers {
    shipway = {
      source = "shipway.internal/shipway/shipway"
    }
  }
}

variable "app" {
  type = string
}

variable "environment" {
  type = string
}

# Attempts to enter a launch that one address has in a minute.
variable "rate_limit" {
  type    = number
  default = 20
}

# Every service of the environment gets DB_URL.
resource "shipway_backing" "db" {
  app         = var.app
  environment = var.environment
  name        = "db"
  engine      = "mariadb"
  version     = "10.11"
}

# Every service of the environment gets CACHE_URL.
resource "shipway_backing" "cache" {
  app         = var.app
  environment = var.environment
  name        = "cache"
  engine      = "redis"
  version     = "7"
}

resource "shipway_variable" "rate_limit" {
  app         = var.app
  environment = var.environment
  name        = "RATE_LIMIT"
  value       = tostring(var.rate_limit)
}
