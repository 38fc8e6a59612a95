data "aws_availability_zones" "available" {
  state = "available"

  # Local zones have no load balancers and other prices.
  filter {
    name   = "opt-in-status"
    values = ["opt-in-not-required"]
  }
}

locals {
  zones = slice(data.aws_availability_zones.available.names, 0, var.zones)

  # Eight ranges of equal size: the first four for public subnets, the others for private ones, so that a third zone moves nothing.
  public_cidrs  = [for index in range(var.zones) : cidrsubnet(var.cidr, 3, index)]
  private_cidrs = [for index in range(var.zones) : cidrsubnet(var.cidr, 3, index + 4)]

  nat_count = var.egress == "nat" ? (var.nat_per_zone ? var.zones : 1) : 0

  task_subnets = var.egress == "public" ? aws_subnet.public[*].id : aws_subnet.private[*].id

  # What a task needs before its first line of code runs: its image (ECR keeps layers in S3), its logs, its secrets.
  endpoint_services = var.egress == "endpoints" ? concat(
    ["ecr.api", "ecr.dkr", "logs", "secretsmanager", "ssm"],
    var.exec ? ["ssmmessages"] : [],
  ) : []
}

resource "aws_vpc" "this" {
  cidr_block           = var.cidr
  enable_dns_support   = true
  enable_dns_hostnames = true
  tags                 = merge(local.tags, { Name = var.name })
}

# A security group that nobody chose must allow nothing.
resource "aws_default_security_group" "this" {
  vpc_id = aws_vpc.this.id
  tags   = merge(local.tags, { Name = "${var.name}-default" })
}

resource "aws_subnet" "public" {
  count = var.zones

  vpc_id            = aws_vpc.this.id
  cidr_block        = local.public_cidrs[count.index]
  availability_zone = local.zones[count.index]
  # Tasks ask for their address themselves; nothing else gets one by being put here.
  map_public_ip_on_launch = false
  tags                    = merge(local.tags, { Name = "${var.name}-public-${count.index + 1}" })
}

resource "aws_subnet" "private" {
  count = var.zones

  vpc_id            = aws_vpc.this.id
  cidr_block        = local.private_cidrs[count.index]
  availability_zone = local.zones[count.index]
  tags              = merge(local.tags, { Name = "${var.name}-private-${count.index + 1}" })
}

resource "aws_internet_gateway" "this" {
  vpc_id = aws_vpc.this.id
  tags   = merge(local.tags, { Name = var.name })
}

resource "aws_route_table" "public" {
  vpc_id = aws_vpc.this.id
  tags   = merge(local.tags, { Name = "${var.name}-public" })
}

resource "aws_route" "public_internet" {
  route_table_id         = aws_route_table.public.id
  destination_cidr_block = "0.0.0.0/0"
  gateway_id             = aws_internet_gateway.this.id
}

resource "aws_route_table_association" "public" {
  count = var.zones

  subnet_id      = aws_subnet.public[count.index].id
  route_table_id = aws_route_table.public.id
}

# One table per zone, whether or not each has a gateway of its own: changing nat_per_zone then changes routes only.
resource "aws_route_table" "private" {
  count = var.zones

  vpc_id = aws_vpc.this.id
  tags   = merge(local.tags, { Name = "${var.name}-private-${count.index + 1}" })
}

resource "aws_route_table_association" "private" {
  count = var.zones

  subnet_id      = aws_subnet.private[count.index].id
  route_table_id = aws_route_table.private[count.index].id
}

resource "aws_eip" "nat" {
  count = local.nat_count

  domain = "vpc"
  tags   = merge(local.tags, { Name = "${var.name}-nat-${count.index + 1}" })
}

resource "aws_nat_gateway" "this" {
  count = local.nat_count

  allocation_id = aws_eip.nat[count.index].id
  subnet_id     = aws_subnet.public[count.index].id
  tags          = merge(local.tags, { Name = "${var.name}-${count.index + 1}" })

  # Without its route out, a gateway that exists works for nobody.
  depends_on = [aws_route.public_internet]
}

resource "aws_route" "private_internet" {
  count = var.egress == "nat" ? var.zones : 0

  route_table_id         = aws_route_table.private[count.index].id
  destination_cidr_block = "0.0.0.0/0"
  nat_gateway_id         = aws_nat_gateway.this[var.nat_per_zone ? count.index : 0].id
}

# Costs nothing, and image layers are most of what tasks fetch: they would otherwise go through the NAT gateway, by the gigabyte.
resource "aws_vpc_endpoint" "s3" {
  vpc_id            = aws_vpc.this.id
  service_name      = "com.amazonaws.${local.region}.s3"
  vpc_endpoint_type = "Gateway"
  route_table_ids   = concat([aws_route_table.public.id], aws_route_table.private[*].id)
  tags              = merge(local.tags, { Name = "${var.name}-s3" })
}

resource "aws_vpc_endpoint" "interface" {
  for_each = toset(local.endpoint_services)

  vpc_id              = aws_vpc.this.id
  service_name        = "com.amazonaws.${local.region}.${each.key}"
  vpc_endpoint_type   = "Interface"
  subnet_ids          = aws_subnet.private[*].id
  security_group_ids  = [aws_security_group.endpoints[0].id]
  private_dns_enabled = true
  tags                = merge(local.tags, { Name = "${var.name}-${each.key}" })
}

# Rules are written inside their groups, not as resources of their own: only so does a rule that somebody adds by hand show up as drift.

resource "aws_security_group" "load_balancer" {
  name        = "${var.name}-load-balancer"
  description = "Shipway: from the internet to the load balancer"
  vpc_id      = aws_vpc.this.id
  tags        = merge(local.tags, { Name = "${var.name}-load-balancer" })

  dynamic "ingress" {
    for_each = local.https ? [80, 443] : [80]
    content {
      description = ingress.value == 443 ? "HTTPS" : "HTTP"
      protocol    = "tcp"
      from_port   = ingress.value
      to_port     = ingress.value
      cidr_blocks = var.ingress_cidrs
    }
  }
  egress {
    # By range, since the tasks' group names this one and two groups cannot wait for each other.
    description = "Tasks and their health checks"
    protocol    = "tcp"
    from_port   = 1
    to_port     = 65535
    cidr_blocks = [var.cidr]
  }
}

resource "aws_security_group" "tasks" {
  name        = "${var.name}-tasks"
  description = "Shipway: tasks, reached by the load balancer and by each other"
  vpc_id      = aws_vpc.this.id
  tags        = merge(local.tags, { Name = "${var.name}-tasks" })

  ingress {
    # Every service declares its own port.
    description     = "The load balancer"
    protocol        = "tcp"
    from_port       = 1
    to_port         = 65535
    security_groups = [aws_security_group.load_balancer.id]
  }
  ingress {
    description = "Other tasks"
    protocol    = "tcp"
    from_port   = 1
    to_port     = 65535
    self        = true
  }
  egress {
    description = "Registries, AWS, and what apps call"
    protocol    = "-1"
    from_port   = 0
    to_port     = 0
    cidr_blocks = ["0.0.0.0/0"]
  }
}

resource "aws_security_group" "endpoints" {
  count = var.egress == "endpoints" ? 1 : 0

  name        = "${var.name}-endpoints"
  description = "Shipway: from tasks to AWS without the internet"
  vpc_id      = aws_vpc.this.id
  tags        = merge(local.tags, { Name = "${var.name}-endpoints" })

  ingress {
    description     = "Tasks"
    protocol        = "tcp"
    from_port       = 443
    to_port         = 443
    security_groups = concat([aws_security_group.tasks.id], aws_security_group.steps[*].id)
  }
}
