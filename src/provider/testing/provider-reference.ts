import type { Attribute, Attributes, AttributeType } from "../protocol/attributes.ts";
import type { Provider } from "../protocol/define-provider.ts";

/** One of each, as they would stand in a product's `infra/main.tf`. A test has Terraform check them against the schema. */
export const RESOURCE_EXAMPLES: { readonly [type: string]: { example: string; importId: string } } = {
  shipway_app: {
    example: `resource "shipway_app" "shop" {
  name = "shop"

  lifecycle {
    prevent_destroy = true
  }
}`,
    importId: "shop",
  },
  shipway_environment: {
    example: `resource "shipway_environment" "production" {
  app    = "shop"
  name   = "production"
  branch = "main"
}`,
    importId: "shop/production",
  },
  shipway_variable: {
    example: `resource "shipway_variable" "log_level" {
  app         = "shop"
  environment = "production"
  name        = "LOG_LEVEL"
  value       = "info"
}`,
    importId: "shop/production/LOG_LEVEL",
  },
  shipway_secret: {
    example: `variable "stripe_key" {
  type      = string
  ephemeral = true
}

resource "shipway_secret" "stripe_key" {
  app              = "shop"
  environment      = "production"
  name             = "STRIPE_KEY"
  value_wo         = var.stripe_key
  value_wo_version = 1
}`,
    importId: "shop/production/STRIPE_KEY",
  },
  shipway_backing: {
    example: `resource "shipway_backing" "db" {
  app         = "shop"
  environment = "production"
  name        = "db"
  engine      = "mariadb"
  version     = "10.11"
}

output "db_host" {
  value = shipway_backing.db.host
}`,
    importId: "shop/production/db",
  },
};

export const DATA_EXAMPLES: { readonly [type: string]: string } = {
  shipway_app: `data "shipway_app" "blog" {
  name = "blog"
}`,
  shipway_environment: `data "shipway_environment" "staging" {
  app  = "blog"
  name = "staging"
}`,
  shipway_variable: `data "shipway_variable" "region" {
  app         = "blog"
  environment = "staging"
  name        = "REGION"
}`,
  shipway_secret: `data "shipway_secret" "mail_key" {
  app         = "blog"
  environment = "staging"
  name        = "MAIL_KEY"
}`,
  shipway_backing: `data "shipway_backing" "cache" {
  app         = "blog"
  environment = "staging"
  name        = "cache"
}`,
};

/** `docs/provider.md`, from what the provider itself declares. Pure. */
export function renderProviderReference(provider: Provider<unknown>, version: string): string {
  return [
    intro(provider.address, version),
    "## The provider's block",
    "",
    "It can be left out: Shipway says both to its own runs, and elsewhere the environment does.",
    "",
    ...hcl('provider "shipway" {\n  server = "https://shipway.example.com"\n}'),
    ...tableOf(provider.attributes),
    "## Resources",
    "",
    ...Object.entries(provider.resources).flatMap(([type, { description, attributes }]) => [
      `### ${type}`,
      "",
      description,
      "",
      ...hcl(RESOURCE_EXAMPLES[type]?.example ?? ""),
      ...tableOf(attributes),
      `Import: \`terraform import ${type}.NAME ${RESOURCE_EXAMPLES[type]?.importId}\`, or an \`import\` block with that id.`,
      "",
    ]),
    "## Data sources",
    "",
    "What is not there is an error, at the line that names it.",
    "",
    ...Object.entries(provider.dataSources).flatMap(([type, { description, attributes }]) => [
      `### ${type} (data)`,
      "",
      description,
      "",
      ...hcl(DATA_EXAMPLES[type] ?? ""),
      ...tableOf(attributes),
    ]),
  ].join("\n");
}

const hcl = (code: string): string[] => ["```hcl", code, "```", ""];

function tableOf(attributes: Attributes): string[] {
  const rows = Object.entries(attributes).map(
    ([name, attribute]) => `| \`${name}\` | ${typeText(attribute.type)} | ${giver(attribute)} | ${notes(attribute)} |`,
  );
  return ["| attribute | type | | |", "| --- | --- | --- | --- |", ...rows, ""];
}

const typeText = (type: AttributeType): string =>
  typeof type === "string" ? type : "list" in type ? `list of ${type.list}` : `map of ${type.map}`;

function giver(attribute: Attribute): string {
  if (attribute.required) return "required";
  if (attribute.default !== undefined) return `optional, default \`${JSON.stringify(attribute.default)}\``;
  if (attribute.optional) return attribute.computed ? "optional, else chosen" : "optional";
  return "given";
}

function notes(attribute: Attribute): string {
  const more = [
    attribute.writeOnly && "Write-only.",
    attribute.sensitive && "Sensitive.",
    attribute.forceNew && "A change makes a new object.",
  ];
  return [attribute.description, ...more.filter(Boolean)].join(" ");
}

const intro = (address: string, version: string): string => `# Shipway in Terraform

\`terraform-provider-shipway\` keeps what Shipway itself has (apps, environments, variables, secrets, databases and caches) in Terraform code, with real drift: remove a database's
container by hand, or change a variable, and the next check shows it. It is part of Shipway, speaks to its API alone, and runs with Terraform 1.0 or newer (secrets: 1.11).

This page is made from the provider's own schema by \`src/provider/provider-reference.test.ts\`; \`npx vitest run --project unit src/provider/provider-reference.test.ts -u\` writes it anew.

## In an environment's \`infra\`

\`\`\`hcl
# infra/main.tf
terraform {
  required_providers {
    shipway = {
      source  = "${address}"
      version = ">= ${version}"
    }
  }
}

resource "shipway_backing" "cache" {
  app         = "shop"
  environment = "production"
  name        = "cache"
  engine      = "redis"
}
\`\`\`

Nothing has to be installed: Shipway lays the provider where its runs find it, and gives each run its own address and a token that ends with the run. An apply may do in its own app what
an operator may; a plan and a drift check only read. Creating and removing apps is closed to runs: keep \`shipway_app\` in a configuration that you run with a token of your own.
\`app\` and \`environment\` are always written, so that the same code means the same wherever it runs; for several environments from one folder, make them variables
(\`variables: { environment: production }\` in \`shipway.yml\`).

The value of a \`shipway_secret\` reaches a run as an ephemeral variable: \`shipway secret set TF_VAR_stripe_key\`, and \`secrets: [TF_VAR_stripe_key]\` under \`infra\`.

| by hand | what \`shipway infra drift --now\` says | what \`--revert\` does |
| --- | --- | --- |
| a backing service's container removed | removed, reverting | makes it again over the data that were kept |
| it was stopped, paused or cut off its network | \`state\`: running → stopped, reverting | starts it |
| another version of it was declared | \`version\`, reverting where the code names one, else informational | the version of the code |
| a variable, or an environment's rule, changed or removed | its \`value\`, \`branch\` or \`tag\`, reverting | writes it |
| a secret set | \`version\`, reverting; never a value | writes the value of the code |

## On your own machine

\`\`\`sh
shipway infra provider install        # into ~/.terraform.d/plugins, where Terraform looks before it asks a registry
export SHIPWAY_SERVER=https://shipway.example.com SHIPWAY_TOKEN=…    # \`shipway token create\`
terraform init
\`\`\`

\`.internal\` is reserved for private use: no registry will ever answer for that address. Terraform starts the provider through \`shipway\` in your \`PATH\`; \`SHIPWAY_PROVIDER\` names
its program where that is another one. If your \`.terraformrc\` has a \`provider_installation\`, add a \`filesystem_mirror\` for the folder (\`--dir\`).

## Lock files

Commit \`.terraform.lock.hcl\`. What Terraform installs is a launcher of a few lines, the same bytes on every machine and platform, and never changed once released: a lock file written on a Mac
holds on the server, and goes on holding after an upgrade of Node or of Shipway and after the data directory has moved. So the locked version says which provider the code was written
for, and the Shipway that runs it is the one that is installed. An upgrade of Shipway keeps serving the versions before it.

## What it costs

Terraform starts a provider three times for a plan and four times for an apply. Each start takes some 0.2 s of processor time, a third of it Node's own; a plan of three unchanged variables took 0.8 s of
processor time in all on a 2-core machine. Calls to the server that fail for a moment are tried four times; an interrupt ends those that are under way.

`;
