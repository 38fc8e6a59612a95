data "aws_caller_identity" "current" {}
data "aws_partition" "current" {}
data "aws_region" "current" {}

locals {
  account   = data.aws_caller_identity.current.account_id
  partition = data.aws_partition.current.partition
  # `id` is the region's name in versions 5 and 6 of the provider; `name` is deprecated in 6, `region` unknown to 5.
  region = data.aws_region.current.id

  # The tag by which Shipway knows what belongs to an installation. The driver's policy asks for it on what the driver makes.
  tags = merge(var.tags, { "shipway:install" = var.name, "shipway:managed-by" = "terraform" })

  log_prefix = "/shipway"

  app_secrets    = [for arn in var.app_secrets : arn if split(":", arn)[2] == "secretsmanager"]
  app_parameters = [for arn in var.app_secrets : arn if split(":", arn)[2] == "ssm"]

  # What the documents in policies/ are filled with. People without Terraform put the same values in by hand.
  policy_values = {
    partition    = local.partition
    region       = local.region
    account      = local.account
    name         = var.name
    log_bucket   = "${var.name}-logs-${local.account}-${local.region}"
    state_bucket = "${var.name}-state-${local.account}-${local.region}"

    # Lists, put between the quotes of one entry. The databases' secrets come first, so that no list is empty.
    app_secrets     = join("\", \"", concat(["arn:${local.partition}:secretsmanager:${local.region}:${local.account}:secret:${var.name}-backing/*"], local.app_secrets))
    app_parameters  = join("\", \"", concat(["arn:${local.partition}:ssm:${local.region}:${local.account}:parameter/shipway/*"], local.app_parameters))
    app_secret_keys = join("\", \"", var.app_secret_keys)
  }
}
