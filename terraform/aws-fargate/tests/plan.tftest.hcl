# Plans only: nothing is made. The provider takes its settings from the environment, so that an emulator can answer it:
#   moto_server & AWS_ENDPOINT_URL=http://127.0.0.1:5000 AWS_REGION=eu-central-1 AWS_ACCESS_KEY_ID=x AWS_SECRET_ACCESS_KEY=x terraform test
# (A mocked provider will not do: Terraform 1.11 cannot mock ephemeral resources.)

run "defaults" {
  command = plan

  assert {
    condition     = length(aws_subnet.public) == 2 && length(aws_subnet.private) == 2 && output.assign_public_ip
    error_message = "Two zones, tasks in public subnets with an address of their own."
  }
  assert {
    condition     = length(aws_nat_gateway.this) == 0 && length(aws_vpc_endpoint.interface) == 0
    error_message = "Nothing that costs by the hour beside the load balancer."
  }
  assert {
    condition     = length(aws_lb_listener.https) == 0 && aws_lb_listener.http.default_action[0].fixed_response[0].status_code == "404"
    error_message = "Without a certificate HTTP answers 404 until Shipway adds rules."
  }
  assert {
    condition     = length(aws_security_group.steps) == 0 && output.step_security_groups == null && output.step_role == null
    error_message = "Nothing for pipeline steps that nobody asked for."
  }
  assert {
    condition     = length(aws_codebuild_project.images) == 0 && output.build_project == null
    error_message = "No project for builds that nobody asked for."
  }
  assert {
    condition     = length(aws_db_instance.this) == 0 && length(aws_elasticache_replication_group.this) == 0
    error_message = "No database that nobody asked for."
  }
  assert {
    condition     = length(aws_iam_role.driver) == 0 && length(output.driver_policy_arns) == 2
    error_message = "Without principals there are policies and no role."
  }
  assert {
    condition     = aws_lb.this.enable_deletion_protection && !aws_s3_bucket.state.force_destroy
    error_message = "What holds data is protected."
  }
}

run "secrets_of_the_account" {
  command = plan
  variables {
    app_secrets = [
      "arn:aws:secretsmanager:eu-central-1:123456789012:secret:shop/*",
      "arn:aws:ssm:eu-central-1:123456789012:parameter/shop/*",
    ]
    app_secret_keys = ["arn:aws:kms:eu-central-1:123456789012:key/0a1b"]
  }

  assert {
    condition = (
      one([for one in jsondecode(aws_iam_role_policy.execution.policy).Statement : one.Resource if one.Sid == "SecretsRead"])[2] == var.app_secrets[0] &&
      one([for one in jsondecode(aws_iam_role_policy.execution.policy).Statement : one.Resource if one.Sid == "ParametersRead"])[1] == var.app_secrets[1]
    )
    error_message = "Tasks are started with them."
  }
  assert {
    condition     = one([for one in jsondecode(aws_iam_policy.driver["storage"].policy).Statement : one.Resource if one.Sid == "SecretsVersions"]) == ["arn:aws:secretsmanager:eu-central-1:123456789012:secret:shipway-backing/*", var.app_secrets[0]]
    error_message = "Shipway may look at their versions, and at those of the databases' secrets."
  }
  assert {
    condition     = jsondecode(aws_iam_role_policy.execution_keys[0].policy).Statement[0].Resource[0] == var.app_secret_keys[0]
    error_message = "Their keys may be used to read them."
  }
}

run "refuses_all_secrets_there_are" {
  command = plan
  variables {
    app_secrets = ["arn:aws:secretsmanager:eu-central-1:123456789012:secret:*"]
  }
  expect_failures = [var.app_secrets]
}

run "pipeline_steps" {
  command = plan
  variables {
    steps  = true
    egress = "endpoints"
  }

  assert {
    condition     = length(aws_security_group.steps) == 1 && length(output.driver_policy_arns) == 3
    error_message = "Steps have a group of their own, and Shipway a policy for them."
  }
  assert {
    condition     = length(aws_iam_role.step) == 0 && output.step_role == null
    error_message = "Scripts of pipelines get no rights that nobody asked for."
  }
}

run "pipeline_steps_with_rights" {
  command = plan
  variables {
    steps            = true
    step_policy_arns = ["arn:aws:iam::aws:policy/AmazonS3ReadOnlyAccess"]
  }

  assert {
    condition     = length(aws_iam_role.step) == 1 && length(aws_iam_role_policy_attachment.step) == 1
    error_message = "One role with the policies that were named."
  }
}

run "private_subnets_with_nat" {
  command = plan
  variables {
    zones  = 3
    egress = "nat"
  }

  assert {
    condition     = !output.assign_public_ip && length(aws_nat_gateway.this) == 1 && length(aws_route.private_internet) == 3
    error_message = "One gateway serves all zones."
  }
}

run "nat_in_each_zone" {
  command = plan
  variables {
    zones        = 3
    egress       = "nat"
    nat_per_zone = true
  }

  assert {
    condition     = length(aws_nat_gateway.this) == 3 && length(aws_eip.nat) == 3
    error_message = "A gateway and an address for each zone."
  }
}

run "endpoints_instead_of_the_internet" {
  command = plan
  variables {
    egress = "endpoints"
    exec   = true
  }

  assert {
    condition     = length(aws_route.private_internet) == 0 && length(aws_nat_gateway.this) == 0 && !output.assign_public_ip
    error_message = "Private subnets have no way out."
  }
  assert {
    condition     = toset(keys(aws_vpc_endpoint.interface)) == toset(["ecr.api", "ecr.dkr", "logs", "secretsmanager", "ssm", "ssmmessages"])
    error_message = "What a task needs to start, and what a shell in it needs."
  }
  assert {
    condition     = length(aws_iam_role_policy.task_exec) == 1 && length(output.driver_policy_arns) == 3 && output.exec
    error_message = "A shell needs rights on both sides, and Shipway has to know of it."
  }
}

run "own_certificate" {
  command = plan
  variables {
    certificate_arn = "arn:aws:acm:eu-central-1:123456789012:certificate/0b5b2e6c"
  }

  assert {
    condition     = aws_lb_listener.http.default_action[0].redirect[0].protocol == "HTTPS"
    error_message = "HTTP leads to HTTPS."
  }
  assert {
    condition     = aws_lb_listener.https[0].certificate_arn == var.certificate_arn && aws_lb_listener.https[0].default_action[0].fixed_response[0].status_code == "404"
    error_message = "HTTPS answers 404 until Shipway adds rules."
  }
  assert {
    condition     = length(aws_acm_certificate.this) == 0
    error_message = "No second certificate."
  }
}

run "domain_of_a_zone" {
  command = plan
  variables {
    domain  = "apps.example.com"
    zone_id = "Z0123456789"
  }

  assert {
    condition     = contains(aws_acm_certificate.this[0].subject_alternative_names, "*.apps.example.com") && length(aws_route53_record.load_balancer) == 2
    error_message = "A certificate and records for the domain and everything below it."
  }
}

run "backing_as_in_shipway_yml" {
  command = plan
  variables {
    backing = {
      db    = { engine = "mariadb", version = "10.11" }
      cache = { engine = "redis", version = "7", standby = true }
    }
  }

  assert {
    condition     = aws_db_instance.this["db"].engine_version == "10.11" && aws_db_instance.this["db"].storage_encrypted && !aws_db_instance.this["db"].publicly_accessible
    error_message = "The database is private and encrypted."
  }
  assert {
    condition     = aws_elasticache_replication_group.this["cache"].engine_version == "7.1" && aws_elasticache_replication_group.this["cache"].num_cache_clusters == 2
    error_message = "shipway.yml's 7 is ElastiCache's 7.1; a standby takes over."
  }
  assert {
    condition     = length(aws_secretsmanager_secret.url) == 0 && length(data.aws_secretsmanager_secret_version.password) == 1
    error_message = "The output carries the password."
  }
}

run "passwords_stay_out_of_the_state" {
  command = plan
  variables {
    passwords_in_outputs = false
    backing              = { db = { engine = "postgres" } }
  }

  assert {
    condition     = length(aws_secretsmanager_secret.url) == 1 && length(data.aws_secretsmanager_secret_version.password) == 0
    error_message = "The URL is a secret, and nothing reads the password."
  }
}

run "refuses_a_name_that_does_not_fit" {
  command = plan
  variables {
    name = "shipway-of-the-other-team"
  }
  expect_failures = [var.name]
}

run "refuses_a_foreign_name" {
  command = plan
  variables {
    name = "acme"
  }
  expect_failures = [var.name]
}

run "refuses_a_domain_without_its_zone" {
  command = plan
  variables {
    domain = "apps.example.com"
  }
  expect_failures = [var.domain]
}

run "refuses_a_range_too_small" {
  command = plan
  variables {
    cidr = "10.0.0.0/24"
  }
  expect_failures = [var.cidr]
}

run "refuses_everybody_as_driver" {
  command = plan
  variables {
    driver_principals = ["*"]
  }
  expect_failures = [var.driver_principals]
}

run "refuses_one_zone_and_an_unknown_egress" {
  command = plan
  variables {
    zones  = 1
    egress = "vpn"
  }
  expect_failures = [var.zones, var.egress]
}

run "refuses_backing_that_is_none" {
  command = plan
  variables {
    backing = {
      db    = { engine = "oracle" }
      Cache = { engine = "redis", class = "db.t4g.micro" }
    }
  }
  expect_failures = [var.backing]
}

run "smaller_settings" {
  command = plan
  variables {
    name                 = "shipway-eu"
    tags                 = { team = "shop" }
    ingress_cidrs        = ["203.0.113.0/24"]
    certificate_arn      = "arn:aws:acm:eu-central-1:123456789012:certificate/0b5b2e6c"
    ssl_policy           = "ELBSecurityPolicy-TLS13-1-3-2021-06"
    idle_timeout         = 300
    access_logs          = false
    log_days             = 7
    container_insights   = "enhanced"
    driver_principals    = ["arn:aws:iam::123456789012:role/host"]
    permissions_boundary = "arn:aws:iam::123456789012:policy/boundary"
    protect              = false
  }

  assert {
    condition     = aws_vpc.this.tags["team"] == "shop" && aws_vpc.this.tags["shipway:install"] == "shipway-eu"
    error_message = "Your tags, and Shipway's."
  }
  assert {
    condition     = alltrue([for rule in aws_security_group.load_balancer.ingress : tolist(rule.cidr_blocks) == tolist(["203.0.113.0/24"])])
    error_message = "Nobody else reaches the load balancer."
  }
  assert {
    condition     = aws_lb.this.name == "shipway-eu" && aws_lb.this.idle_timeout == 300 && !aws_lb.this.access_logs[0].enabled && !aws_lb.this.enable_deletion_protection
    error_message = "The load balancer is as asked for."
  }
  assert {
    condition     = aws_lb_listener.https[0].ssl_policy == "ELBSecurityPolicy-TLS13-1-3-2021-06"
    error_message = "TLS is as asked for."
  }
  assert {
    condition     = aws_s3_bucket_lifecycle_configuration.logs.rule[0].expiration[0].days == 7 && aws_s3_bucket.logs.force_destroy
    error_message = "Logs are forgotten in time, and with the bucket."
  }
  assert {
    condition     = tolist(aws_ecs_cluster.this.setting)[0].value == "enhanced"
    error_message = "Insights are as asked for."
  }
  assert {
    condition     = alltrue([for role in [aws_iam_role.execution, aws_iam_role.task, aws_iam_role.driver[0]] : role.permissions_boundary == var.permissions_boundary])
    error_message = "Every role is bounded."
  }
}

run "image_builds" {
  command = plan
  variables {
    builds                = true
    build_architecture    = "arm64"
    build_compute_type    = "BUILD_GENERAL1_LARGE"
    build_timeout_minutes = 30
    build_limit           = 4
    buildkit_image        = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/buildkit:1"
    log_days              = 10
    permissions_boundary  = "arn:aws:iam::123456789012:policy/boundary"
  }

  assert {
    condition     = aws_codebuild_project.images[0].name == "shipway-images" && length(output.driver_policy_arns) == 3
    error_message = "A project, and what Shipway needs to use it."
  }
  assert {
    condition     = aws_codebuild_project.images[0].build_timeout == 30 && aws_codebuild_project.images[0].concurrent_build_limit == 4
    error_message = "Builds end in time, and do not take the account's whole quota."
  }
  assert {
    condition     = one(aws_codebuild_project.images[0].environment).type == "ARM_CONTAINER" && one(aws_codebuild_project.images[0].environment).compute_type == "BUILD_GENERAL1_LARGE" && one(aws_codebuild_project.images[0].environment).privileged_mode
    error_message = "A machine of the architecture that was asked for, with Docker."
  }
  assert {
    condition     = one(one(aws_codebuild_project.images[0].environment).environment_variable).name == "SHIPWAY_BUILDKIT_IMAGE"
    error_message = "BuildKit's image is as asked for."
  }
  assert {
    condition     = aws_cloudwatch_log_group.build[0].retention_in_days == 14
    error_message = "What CloudWatch takes, and not less than asked for."
  }
  assert {
    condition     = aws_iam_role.build[0].permissions_boundary == var.permissions_boundary
    error_message = "Every role is bounded."
  }
}

run "shipway_itself" {
  command = plan
  variables {
    name    = "shipway-of-a-long-na"
    domain  = "example.com"
    zone_id = "Z0123456789"
    control_plane = {
      domain           = "shipway.example.com"
      image            = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/shipway-control-plane:1"
      allowed_cidrs    = ["203.0.113.0/24"]
      database_standby = true
      infra_roles      = ["arn:aws:iam::123456789012:role/infra"]
    }
  }

  assert {
    condition     = aws_ecs_service.control_plane["this"].deployment_maximum_percent == 100 && aws_ecs_service.control_plane["this"].deployment_minimum_healthy_percent == 0 && aws_ecs_service.control_plane["this"].desired_count == 1
    error_message = "The old task ends before the new one begins."
  }
  assert {
    condition     = aws_db_instance.control_plane["this"].storage_encrypted && !aws_db_instance.control_plane["this"].publicly_accessible && aws_db_instance.control_plane["this"].deletion_protection && aws_db_instance.control_plane["this"].multi_az && aws_db_instance.control_plane["this"].backup_retention_period == 14
    error_message = "The database is private, encrypted, protected and backed up."
  }
  assert {
    condition     = aws_efs_file_system.control_plane["this"].encrypted && length(aws_efs_mount_target.control_plane) == 2
    error_message = "The files are encrypted, and reached from every zone."
  }
  assert {
    condition     = aws_lb_listener_rule.control_plane["this"].priority == 1 && length(aws_lb_listener_rule.control_plane["this"].condition) == 2
    error_message = "No rule of an app comes before it, and only the given addresses reach it."
  }
  assert {
    condition     = length(aws_lb_target_group.control_plane["this"].name) <= 32 && length(aws_iam_role.control_plane_execution["this"].name) <= 64
    error_message = "Names fit, however long the name is."
  }
  assert {
    condition     = alltrue([for name in [aws_ecs_service.control_plane["this"].name, aws_ecs_task_definition.control_plane["this"].family] : !startswith(name, "shipway-")])
    error_message = "What runs apps cannot change what runs it: the driver's policies cover shipway-*."
  }
  assert {
    condition     = output.control_plane_url == "https://shipway.example.com"
    error_message = "Where it answers."
  }
}

run "shipway_itself_before_its_image_is_there" {
  command = plan
  variables {
    certificate_arn = "arn:aws:acm:eu-central-1:123456789012:certificate/0b5b2e6c"
    control_plane   = { domain = "shipway.example.com" }
  }

  assert {
    condition     = length(aws_ecs_service.control_plane) == 0 && length(aws_ecr_repository.control_plane) == 1 && length(aws_db_instance.control_plane) == 1
    error_message = "Everything but the task, so that the image can be pushed."
  }
}

run "refuses_shipway_itself_without_tls_or_a_way_out" {
  command = plan
  variables {
    egress        = "endpoints"
    control_plane = { domain = "shipway.example.com" }
  }
  expect_failures = [var.control_plane]
}
