variable "name" {
  description = "Names everything: cluster, load balancer, roles, buckets. One name per account and region."
  type        = string
  default     = "shipway"

  validation {
    condition     = can(regex("^shipway(-[a-z0-9]+)*$", var.name)) && length(var.name) <= 20
    error_message = "name must be \"shipway\" or begin with \"shipway-\", followed by lower-case letters, digits and single dashes, and have at most 20 characters (a load balancer's name has at most 32, a bucket's 63 with account and region in it)."
  }
}

variable "tags" {
  description = "Tags for everything, beside shipway:install and shipway:managed-by."
  type        = map(string)
  default     = {}

  validation {
    condition     = alltrue([for key in keys(var.tags) : !startswith(key, "shipway:") && !startswith(key, "aws:")])
    error_message = "tags must not begin with \"shipway:\" (Shipway reads those) or \"aws:\" (AWS refuses those)."
  }
}

variable "cidr" {
  description = "The VPC's addresses: a private /16 to /20, an eighth of it for each subnet."
  type        = string
  default     = "10.42.0.0/16"

  validation {
    condition     = can(cidrnetmask(var.cidr)) && try(tonumber(split("/", var.cidr)[1]) >= 16 && tonumber(split("/", var.cidr)[1]) <= 20, false)
    error_message = "cidr must be an IPv4 range of size /16 to /20, such as 10.42.0.0/16."
  }
}

variable "zones" {
  description = "In how many availability zones to run. A load balancer needs two."
  type        = number
  default     = 2

  validation {
    condition     = contains([2, 3], var.zones)
    error_message = "zones must be 2 or 3."
  }
}

variable "egress" {
  description = "How tasks reach registries, AWS and the internet: \"public\" (public subnets, an address per task), \"nat\" (private subnets, NAT gateway) or \"endpoints\" (private subnets, AWS only)."
  type        = string
  default     = "public"

  validation {
    condition     = contains(["public", "nat", "endpoints"], var.egress)
    error_message = "egress must be \"public\", \"nat\" or \"endpoints\"; the module's README says what each costs."
  }
}

variable "nat_per_zone" {
  description = "With egress \"nat\": one gateway per zone, so that a zone's failure stays in that zone. Otherwise one for all."
  type        = bool
  default     = false
}

variable "ingress_cidrs" {
  description = "Who may reach the load balancer."
  type        = list(string)
  default     = ["0.0.0.0/0"]

  validation {
    condition     = length(var.ingress_cidrs) > 0 && alltrue([for range in var.ingress_cidrs : can(cidrnetmask(range))])
    error_message = "ingress_cidrs must name at least one IPv4 range, such as 203.0.113.0/24."
  }
}

variable "certificate_arn" {
  description = "A certificate in ACM, in this region, for HTTPS. Without it and without domain there is HTTP only."
  type        = string
  default     = null

  validation {
    condition     = var.certificate_arn == null || can(regex("^arn:[a-z-]+:acm:[a-z0-9-]+:[0-9]{12}:certificate/", var.certificate_arn))
    error_message = "certificate_arn must be an ACM certificate's ARN: arn:aws:acm:REGION:ACCOUNT:certificate/ID."
  }
}

variable "domain" {
  description = "Serve DOMAIN and *.DOMAIN: requests a certificate and points both names at the load balancer. Needs zone_id."
  type        = string
  default     = null

  validation {
    condition     = var.domain == null || can(regex("^([a-z0-9]([a-z0-9-]*[a-z0-9])?\\.)+[a-z]{2,}$", var.domain))
    error_message = "domain must be a domain name in lower case, such as apps.example.com."
  }
  validation {
    condition     = (var.domain == null) == (var.zone_id == null)
    error_message = "domain and zone_id belong together: the zone is where the certificate is proved and the names are kept. For a domain kept elsewhere give certificate_arn instead, and point the names at the output load_balancer_dns."
  }
  validation {
    condition     = var.domain == null || var.certificate_arn == null
    error_message = "Give either domain (the module requests the certificate) or certificate_arn (you have one), not both."
  }
}

variable "zone_id" {
  description = "The public Route 53 zone that holds domain."
  type        = string
  default     = null
}

variable "ssl_policy" {
  description = "What TLS the load balancer speaks."
  type        = string
  default     = "ELBSecurityPolicy-TLS13-1-2-2021-06"
}

variable "idle_timeout" {
  description = "Seconds after which the load balancer closes a silent connection."
  type        = number
  default     = 60

  validation {
    condition     = var.idle_timeout >= 1 && var.idle_timeout <= 4000
    error_message = "idle_timeout must be 1 to 4000 seconds."
  }
}

variable "access_logs" {
  description = "Keep the load balancer's access logs in the log bucket."
  type        = bool
  default     = true
}

variable "log_days" {
  description = "After how many days the log bucket forgets access logs and what pipelines left."
  type        = number
  default     = 30

  validation {
    condition     = var.log_days >= 1
    error_message = "log_days must be at least 1."
  }
}

variable "container_insights" {
  description = "CloudWatch Container Insights of the cluster: \"disabled\", \"enabled\" or \"enhanced\". They are charged per metric."
  type        = string
  default     = "disabled"

  validation {
    condition     = contains(["disabled", "enabled", "enhanced"], var.container_insights)
    error_message = "container_insights must be \"disabled\", \"enabled\" or \"enhanced\"."
  }
}

variable "driver_principals" {
  description = "ARNs of the roles or users Shipway runs as; they may assume the driver role. Without any, attach driver_policy_arns yourself."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for arn in var.driver_principals : can(regex("^arn:[a-z-]+:iam::[0-9]{12}:(role|user)/", arn))])
    error_message = "driver_principals must be ARNs of IAM roles or users, such as arn:aws:iam::123456789012:role/shipway-host; a whole account or \"*\" is refused."
  }
}

variable "permissions_boundary" {
  description = "ARN of a policy that bounds every role made here, where your organisation asks for one."
  type        = string
  default     = null
}

variable "exec" {
  description = "Let people open a shell in tasks (ECS Exec): rights for the task role and for the driver."
  type        = bool
  default     = false
}

variable "app_secrets" {
  description = "ARNs of secrets (Secrets Manager) and parameters (Systems Manager) that services name in shipway.yml, * for any text: tasks may be started with them, and Shipway may look at their versions. Those of backing are among them."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for arn in var.app_secrets : can(regex("^arn:aws[a-z-]*:(secretsmanager:[a-z0-9-]+:[0-9]{12}:secret:|ssm:[a-z0-9-]+:[0-9]{12}:parameter/)[^*\"\\s]", arn))])
    error_message = "Each must be the ARN of a secret (arn:aws:secretsmanager:…:secret:shop/*) or of a parameter (arn:aws:ssm:…:parameter/shop/*), with at least the beginning of a name."
  }
}

variable "app_secret_keys" {
  description = "ARNs of your KMS keys that app_secrets are encrypted with. Those with AWS's own keys need none."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for arn in var.app_secret_keys : can(regex("^arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:key/[a-z0-9-]+$", arn))])
    error_message = "Each must be the ARN of a key (arn:aws:kms:…:key/…), not of an alias."
  }
}

variable "steps" {
  description = "Let pipeline steps run on this cluster, for ci: { steps: ecs } in shipway.yml: a security group and a policy of their own."
  type        = bool
  default     = false
}

variable "step_policy_arns" {
  description = "What scripts of pipelines may do in AWS; whoever may push can do it. Without any they get no credentials at all."
  type        = list(string)
  default     = []
}

variable "builds" {
  description = "Make a CodeBuild project that builds images, for ci: { images: codebuild } in shipway.yml. It costs nothing while nothing is built."
  type        = bool
  default     = false
}

variable "build_compute_type" {
  description = "How large the machine of a build is: \"BUILD_GENERAL1_SMALL\" (2 vCPUs), \"BUILD_GENERAL1_MEDIUM\" (4), \"BUILD_GENERAL1_LARGE\" (8) or \"BUILD_GENERAL1_2XLARGE\" (72)."
  type        = string
  default     = "BUILD_GENERAL1_SMALL"

  validation {
    condition     = contains(["BUILD_GENERAL1_SMALL", "BUILD_GENERAL1_MEDIUM", "BUILD_GENERAL1_LARGE", "BUILD_GENERAL1_2XLARGE"], var.build_compute_type)
    error_message = "build_compute_type must be BUILD_GENERAL1_SMALL, BUILD_GENERAL1_MEDIUM, BUILD_GENERAL1_LARGE or BUILD_GENERAL1_2XLARGE."
  }
}

variable "build_architecture" {
  description = "What images are built for: \"x86_64\" or \"arm64\". It must be the architecture of the environments they run in."
  type        = string
  default     = "x86_64"

  validation {
    condition     = contains(["x86_64", "arm64"], var.build_architecture)
    error_message = "build_architecture must be \"x86_64\" or \"arm64\"."
  }
}

variable "build_timeout_minutes" {
  description = "After how many minutes a build is stopped."
  type        = number
  default     = 60

  validation {
    condition     = var.build_timeout_minutes >= 5 && var.build_timeout_minutes <= 2160
    error_message = "build_timeout_minutes must be between 5 and 2160 (36 hours)."
  }
}

variable "build_limit" {
  description = "How many builds may run at a time; null for as many as the account allows."
  type        = number
  default     = null
}

variable "buildkit_image" {
  description = "Image of BuildKit that builds use, such as a copy in ECR; null for that of Docker Hub, which may refuse when too many ask."
  type        = string
  default     = null
}

variable "backing" {
  description = "Databases and caches, named as under backing: in shipway.yml. engine: mariadb, mysql, postgres (RDS), redis or valkey (ElastiCache)."
  type = map(object({
    engine  = string
    version = optional(string)
    # db.t4g.micro or cache.t4g.micro unless said.
    class = optional(string)
    # RDS: a second machine in another zone. ElastiCache: a replica that takes over.
    standby = optional(bool, false)
    # RDS only. storage grows by itself up to max_storage.
    storage_gib     = optional(number, 20)
    max_storage_gib = optional(number, 100)
    backup_days     = optional(number, 7)
    # Raise it to get a new password.
    password_version = optional(number, 1)
  }))
  default = {}

  validation {
    condition     = alltrue([for name in keys(var.backing) : can(regex("^[a-z][a-z0-9]*(-[a-z0-9]+)*$", name)) && length(name) <= 18])
    error_message = "A name in backing begins with a lower-case letter, goes on with lower-case letters, digits and single dashes, and has at most 18 characters."
  }
  validation {
    condition     = alltrue([for one in values(var.backing) : contains(["mariadb", "mysql", "postgres", "redis", "valkey"], one.engine)])
    error_message = "engine in backing must be mariadb, mysql, postgres, redis or valkey."
  }
  validation {
    condition     = alltrue([for one in values(var.backing) : one.class == null || startswith(coalesce(one.class, "-"), contains(["redis", "valkey"], one.engine) ? "cache." : "db.")])
    error_message = "class in backing begins with \"db.\" for databases (db.t4g.small) and with \"cache.\" for redis and valkey (cache.t4g.small)."
  }
  validation {
    condition     = alltrue([for one in values(var.backing) : one.storage_gib >= 20 && one.max_storage_gib >= one.storage_gib])
    error_message = "storage_gib in backing must be at least 20, and max_storage_gib not less than it."
  }
  validation {
    condition     = alltrue([for one in values(var.backing) : one.backup_days >= 0 && one.backup_days <= 35])
    error_message = "backup_days in backing must be 0 (none) to 35."
  }
}

variable "control_plane" {
  description = "Run Shipway itself on this cluster: one Fargate task behind the load balancer at domain, its database in RDS, its files in EFS. Without image everything but the task is made, so that there is a repository to push it to."
  type = object({
    # Where it answers. certificate_arn is for a name that the load balancer's own certificate does not cover.
    domain          = string
    certificate_arn = optional(string)
    # Of Shipway's own Dockerfile, in the repository of the output control_plane_repository.
    image        = optional(string)
    architecture = optional(string, "X86_64")
    cpu          = optional(number, 1024)
    memory       = optional(number, 2048)
    # Who may reach it; everybody whom the load balancer lets in unless said.
    allowed_cidrs = optional(list(string), [])
    # Roles that Terraform of its environments may assume.
    infra_roles = optional(list(string), [])
    # Further settings, such as SHIPWAY_LOG.
    environment = optional(map(string), {})
    # The database has a second machine in another zone.
    database_standby = optional(bool, false)
    database_class   = optional(string, "db.t4g.micro")
    # Of the database and of the files; 0 for none.
    backup_days = optional(number, 14)
    log_days    = optional(number, 90)
  })
  default = null

  validation {
    condition     = var.control_plane == null || can(regex("^([a-z0-9]([a-z0-9-]*[a-z0-9])?\\.)+[a-z]{2,}$", var.control_plane.domain))
    error_message = "control_plane.domain must be a domain name in lower case, such as shipway.example.com."
  }
  validation {
    condition     = var.control_plane == null || var.certificate_arn != null || var.domain != null
    error_message = "control_plane needs HTTPS, since tokens travel to it: give domain with zone_id, or certificate_arn."
  }
  validation {
    condition     = var.control_plane == null || var.egress != "endpoints"
    error_message = "control_plane needs a way out to AWS's APIs, registries and repositories: use egress \"nat\" or \"public\"."
  }
  validation {
    condition     = try(length(var.control_plane.allowed_cidrs), 0) <= 4 && alltrue([for range in try(var.control_plane.allowed_cidrs, []) : can(cidrnetmask(range))])
    error_message = "control_plane.allowed_cidrs must be at most 4 IPv4 ranges, such as 203.0.113.0/24 (a rule of a load balancer takes 5 values, its name included)."
  }
  validation {
    condition     = alltrue([for arn in try(var.control_plane.infra_roles, []) : can(regex("^arn:[a-z-]+:iam::[0-9]{12}:role/[^*]+$", arn))])
    error_message = "control_plane.infra_roles must be ARNs of roles, without a wildcard."
  }
  validation {
    condition     = try(contains(["X86_64", "ARM64"], var.control_plane.architecture), true)
    error_message = "control_plane.architecture must be \"X86_64\" or \"ARM64\", as the image was built."
  }
  validation {
    condition     = try(startswith(var.control_plane.database_class, "db."), true)
    error_message = "control_plane.database_class begins with \"db.\", such as db.t4g.small."
  }
  validation {
    condition     = try(var.control_plane.backup_days >= 0 && var.control_plane.backup_days <= 35, true)
    error_message = "control_plane.backup_days must be 0 (none) to 35."
  }
  validation {
    condition     = length(setintersection(keys(try(var.control_plane.environment, {})), ["DATABASE_URL", "SHIPWAY_SECRET_KEY", "SHIPWAY_FIRST_TOKEN", "SHIPWAY_URL"])) == 0
    error_message = "control_plane.environment must not set DATABASE_URL, SHIPWAY_SECRET_KEY, SHIPWAY_FIRST_TOKEN or SHIPWAY_URL: the module does."
  }
}

variable "passwords_in_outputs" {
  description = "Whether backing_urls carry the databases' passwords; then the state holds them too. false: the whole URL is in Secrets Manager only, at backing_secret_arns."
  type        = bool
  default     = true
}

variable "protect" {
  description = "Refuse to destroy what holds data (databases, buckets) and the load balancer. To remove everything, apply once with false, then destroy."
  type        = bool
  default     = true
}
