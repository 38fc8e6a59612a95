import { describe, expect, it } from "vitest";
import { AppSpec, FARGATE_MEMORY_MIB } from "./app-spec.ts";
import { checkSpec, describeMemorySizes, notesOn } from "./check-spec.ts";

type Input = Parameters<typeof AppSpec.parse>[0] & object;

/** `PATH: message` for each problem of a spec with one good service `web`, `changes` laid over it. */
function problemsOf(changes: { web?: object; services?: object } & Input): string[] {
  const { web = {}, services = {}, ...rest } = changes;
  const spec = AppSpec.parse({
    app: "shop",
    services: { web: { image: "a", port: 80, ...web }, ...services },
    ...rest,
  });
  return checkSpec(spec).map(({ path, message }) => `${path.join(".")}: ${message}`);
}

const ON_ECS = {
  runtime: "ecs" as const,
  aws: {
    region: "eu-central-1",
    cluster: "c",
    listener: `arn:aws:elasticloadbalancing:eu-central-1:123456789012:listener/app/shop/${"0".repeat(16)}/${"0".repeat(16)}`,
    subnets: ["subnet-0a1b2c3d"],
    securityGroups: ["sg-0a1b2c3d"],
    executionRole: "arn:aws:iam::123456789012:role/x",
  },
};

describe("checkSpec", () => {
  it.each([
    {
      name: "build and image",
      spec: { web: { build: {} } },
      problem: "services.web.image: a service has either build or image, not both",
    },
    {
      name: "who approves what nobody has to approve",
      spec: { environments: { production: { branch: "main", approvers: "others" } } },
      problem: "environments.production.approvers: approvers says nothing without approval: required",
    },
    {
      name: "neither build nor image",
      spec: { services: { api: {} } },
      problem: /^services.api: service "api" needs build/,
    },
    {
      name: "a memory Fargate does not have",
      spec: { web: { memory: 1536 } },
      problem: "services.web.memory: 1536 MiB does not go with 256 CPU units: use 512, 1024 or 2048 MiB",
    },
    {
      name: "two health checks",
      spec: { web: { health: { path: "/", tcp: true } } },
      problem: "services.web.health.tcp: a health check is one of path, tcp or command; path is there already",
    },
    {
      name: "a path without a port",
      spec: { services: { job: { image: "a", health: { path: "/" } } } },
      problem: /^services.job.health.path: health.path needs a port/,
    },
    {
      name: "tcp without a port",
      spec: { services: { job: { image: "a", health: { tcp: true } } } },
      problem: /^services.job.health.tcp: health.tcp needs a port/,
    },
    {
      name: "domains without a port",
      spec: { services: { job: { image: "a", domains: ["a.b"] } } },
      problem: /^services.job.domains: domains need a port/,
    },
    {
      name: "a domain of two services",
      spec: { web: { domains: ["a.b"] }, services: { api: { image: "a", port: 1, domains: ["a.b"] } } },
      problem: 'services.api.domains.0: a.b is claimed by service "web" already',
    },
    {
      name: "secrets of an account on Docker",
      spec: { web: { secrets: ["A"] }, environments: { p: { secrets: { A: "ssm:/a" } } } },
      problem: /^environments.p.secrets: only ECS reads .*`shipway secret set A --env p`/,
    },
    {
      name: "a secret of the account that no service takes",
      spec: { web: { secrets: ["PASSWORD"] }, environments: { p: { ...ON_ECS, secrets: { PASWORD: "ssm:/a" } } } },
      problem: 'environments.p.secrets.PASWORD: no service has PASWORD among its secrets: did you mean "PASSWORD"?',
    },
    {
      name: "a secret that lies in another Region",
      spec: {
        web: { secrets: ["A"] },
        environments: { p: { ...ON_ECS, secrets: { A: "arn:aws:ssm:eu-west-1:123456789012:parameter/a" } } },
      },
      problem:
        "environments.p.secrets.A: this lies in eu-west-1, and the environment runs in eu-central-1: name one of eu-central-1",
    },
    {
      name: "a secret that is a variable, too",
      spec: {
        web: { secrets: ["A"] },
        environments: { p: { ...ON_ECS, env: { A: "1" }, secrets: { A: "ssm:/a" } } },
      },
      problem: "environments.p.secrets.A: A is in env of p, too: keep one",
    },
    {
      name: "a secret that is handed over as an output, too",
      spec: {
        web: { secrets: ["A"] },
        environments: {
          p: { ...ON_ECS, infra: { dir: "infra", outputs: { A: "a" } }, secrets: { A: { output: "a_arn" } } },
        },
      },
      problem: /^environments.p.secrets.A: A is in outputs of infra, too/,
    },
    {
      name: "an output without infra",
      spec: { web: { secrets: ["A"] }, environments: { p: { ...ON_ECS, secrets: { A: { output: "a_arn" } } } } },
      problem: "environments.p.secrets.A.output: output needs infra, which gives it",
    },
    {
      name: "a ref of the app's own repository",
      spec: { environments: { p: { infra: { dir: "infra", ref: "main" } } } },
      problem: /^environments.p.infra.ref: ref is for a repository of its own/,
    },
    {
      name: "the app's own repository by its name",
      spec: { environments: { p: { infra: { dir: "infra", repository: "shop" } } } },
      problem: "environments.p.infra.repository: that is the app's own repository: leave the key out",
    },
    {
      name: "a token for ssh",
      spec: { environments: { p: { infra: { dir: "infra", repository: "git@host:infra.git", credential: "T" } } } },
      problem: /^environments.p.infra.credential: credential is a token for an https address/,
    },
    {
      name: "a variable file outside of the repository",
      spec: { environments: { p: { infra: { dir: "a/b", varFiles: ["../../x.tfvars", "../../../x.tfvars"] } } } },
      problem: "environments.p.infra.varFiles.1: ../../../x.tfvars leads out of the repository",
    },
    {
      name: "a domain of two environments",
      spec: { web: { domains: ["a.b"] }, environments: { staging: {}, production: {} } },
      problem:
        "services.web.domains.0: a.b would lead to both staging and production: write it under environments.staging.services.web.domains",
    },
    {
      name: "a verify of no service",
      spec: { verify: [{ service: "wbe", command: "x" }] },
      problem: 'verify.0.service: there is no service "wbe": did you mean "web"?',
    },
    {
      name: "an override of no service",
      spec: { environments: { p: { services: { zzz: {} } } } },
      problem: 'environments.p.services.zzz: there is no service "zzz": services are web',
    },
    {
      name: "a service called constructor that is not there",
      spec: { verify: [{ service: "constructor", command: "x" }] },
      problem: /there is no service "constructor"/,
    },
    {
      name: "an override that breaks the size",
      spec: { web: { memory: 512 }, environments: { p: { services: { web: { cpu: 1024 } } } } },
      problem:
        "environments.p.services.web.cpu: 1024 CPU units do not go with the service's 512 MiB: set memory here too, 2048 to 8192 MiB in steps of 1024",
    },
    {
      name: "an override with a wrong size",
      spec: { environments: { p: { services: { web: { memory: 4096 } } } } },
      problem: /^environments.p.services.web.memory: 4096 MiB does not go with 256/,
    },
    {
      name: "a backing service named as a service",
      spec: { backing: { web: { engine: "redis" } } },
      problem: /^backing.web: "web" is the name of a service/,
    },
    {
      name: "a reserved name",
      spec: { services: { router: { image: "a" } } },
      problem: 'services.router: the name "router" is reserved: choose another',
    },
    {
      name: "a reserved backing name",
      spec: { backing: { localhost: { engine: "redis" } } },
      problem: /^backing.localhost: the name "localhost" is reserved/,
    },
    {
      name: "a fixed host port",
      spec: { web: { hostPort: 80 } },
      problem:
        /^services.web.hostPort: a fixed host port is refused: two tasks cannot own it at once, so every deploy would stop the old before starting the new/,
    },
    {
      name: "a volume",
      spec: { web: { volumes: ["data:/x"] } },
      problem: /^services.web.volumes: a volume is refused: two tasks cannot own it at once/,
    },
    {
      name: "two tasks with a volume",
      spec: { web: { volumes: ["data:/x"], downtime: "accept", count: 2 } },
      problem: "services.web.count: volumes allows one task only: use count: 1",
    },
    {
      name: "two tasks with a volume in one environment",
      spec: {
        web: { volumes: ["data:/x"], downtime: "accept" },
        environments: { p: { services: { web: { count: 2 } } } },
      },
      problem: /^environments.p.services.web.count: volumes allows one task only/,
    },
    {
      name: "a host port twice",
      spec: {
        web: { hostPort: 80, downtime: "accept" },
        services: { api: { image: "a", port: 1, hostPort: 80, downtime: "accept" } },
      },
      problem: 'services.api.hostPort: host port 80 belongs to service "web" already',
    },
    {
      name: "a variable that is a secret, too",
      spec: { web: { env: { A: "1" }, secrets: ["A"] } },
      problem: "services.web.secrets.0: A is both in env and in secrets: keep one",
    },
    {
      name: "an overriding variable that is a secret",
      spec: { web: { secrets: ["A"] }, environments: { p: { services: { web: { env: { A: "1" } } } } } },
      problem: "environments.p.services.web.env.A: A is a secret of the service: keep one",
    },
    {
      name: "a secret twice",
      spec: { web: { secrets: ["A", "A"] } },
      problem: "services.web.secrets.1: A is listed twice",
    },
    {
      name: "a variable of Shipway's",
      spec: { environments: { p: { env: { SHIPWAY_X: 1 } } } },
      problem: "environments.p.env.SHIPWAY_X: names that start with SHIPWAY_ are set by Shipway",
    },
    {
      name: "a branch pattern nothing matches",
      spec: { environments: { p: { branch: "release {" } } },
      problem: 'environments.p.branch: branch contains " ", which no branch or tag name can contain',
    },
    {
      name: "a full ref name",
      spec: { environments: { p: { tag: "refs/tags/v*" } } },
      problem: "environments.p.tag: tag takes the short name: write v*",
    },
  ])("refuses $name", ({ spec, problem }) => {
    const problems = problemsOf(spec);
    expect(problems).toEqual([typeof problem === "string" ? problem : expect.stringMatching(problem)]);
  });

  it.each([
    {
      name: "a volume whose downtime is accepted",
      spec: { web: { volumes: ["data:/x"], hostPort: 80, downtime: "accept" } },
    },
    {
      name: "the same domain in different environments when each names its own service",
      spec: { environments: { s: {}, p: { services: { web: { domains: ["a.b"] } } } } },
    },
    {
      name: "an environment with both branch and tag",
      spec: { environments: { p: { branch: "{main,release/**}", tag: "v*" } } },
    },
    {
      name: "a worker with a command to ask for its health",
      spec: { services: { job: { image: "a", health: { command: "true" } } } },
    },
  ])("accepts $name", ({ spec }) => expect(problemsOf(spec)).toEqual([]));

  it("accepts exactly Fargate's pairs", () => {
    const accepted = Object.keys(FARGATE_MEMORY_MIB).map((cpu) => {
      const sizes = Array.from({ length: 60 }, (_, n) => 512 * (n + 1));
      const fits = sizes.filter((memory) => problemsOf({ web: { cpu: Number(cpu), memory } }).length === 0);
      return `${cpu}: ${fits.length}, ${fits[0]} to ${fits.at(-1)}`;
    });
    expect(accepted).toEqual([
      "256: 3, 512 to 2048",
      "512: 4, 1024 to 4096",
      "1024: 7, 2048 to 8192",
      "2048: 13, 4096 to 16384",
      "4096: 23, 8192 to 30720",
    ]);
    expect(describeMemorySizes(512)).toBe("1024, 2048, 3072 or 4096 MiB");
  });
});

describe("an environment with runtime: ecs", () => {
  const problemsIn = (changes: object) => problemsOf(changes);
  const ecs = (more: object = {}) => ({ production: { runtime: "ecs" as const, infra: { dir: "infra" }, ...more } });

  it("needs nothing written where infra gives its outputs", () => {
    expect(problemsIn({ environments: ecs() })).toEqual([]);
  });

  it("names the settings that are missing where there is no infra", () => {
    expect(problemsIn({ environments: { production: { runtime: "ecs", aws: { region: "eu-central-1" } } } })).toEqual([
      "environments.production.aws: runtime: ecs needs aws: { cluster, listener, subnets, securityGroups, executionRole }, or infra whose outputs give them",
    ]);
  });

  it("takes no aws: on Docker", () => {
    expect(problemsIn({ environments: { production: { aws: { region: "eu-central-1" } } } })).toEqual([
      "environments.production.aws: aws needs runtime: ecs",
    ]);
  });

  it("has its backing services from infra, and says so", () => {
    const backing = { db: { engine: "mysql" as const } };
    expect(problemsIn({ backing, environments: ecs() })).toEqual([
      expect.stringMatching(
        /^environments.production.runtime: db does not run on ECS: make it with infra.*backing: none/,
      ),
    ]);
    expect(problemsIn({ backing, environments: ecs({ backing: "none" }) })).toEqual([]);
  });

  it("refuses what Fargate cannot do, with the nearest thing it can", () => {
    const web = {
      stopTimeout: "5m",
      hostPort: 80,
      volumes: ["data:/data"],
      downtime: "accept",
      domains: ["a", "b", "c", "d", "e"],
    };
    const problems = problemsIn({ web, environments: ecs() }).filter((text) => text.includes("Fargate"));
    expect(problems).toEqual([
      expect.stringMatching(/^services.web.hostPort: .*no host/),
      expect.stringMatching(/^services.web.volumes: .*keep no volume/),
      expect.stringMatching(/^services.web.stopTimeout: .*use stopTimeout: 120s/),
      expect.stringMatching(/^services.web.domains: .*takes 4 domains: remove 1/),
    ]);
  });
});

describe("ci", () => {
  const environments = { production: { runtime: "ecs" as const, infra: { dir: "infra" } }, staging: {} };
  const problemsIn = (ci: object) => problemsOf({ environments, ci } as object);

  it("needs nothing on this server's own engine", () => {
    expect(problemsIn({})).toEqual([]);
    expect(problemsIn({ steps: "docker", images: "docker" })).toEqual([]);
  });

  it("is satisfied by an environment that runs on ECS", () => {
    expect(problemsIn({ steps: "ecs", images: "codebuild", environment: "production" })).toEqual([]);
  });

  it("asks for the environment whose account is used, and names those there are", () => {
    expect(problemsIn({ steps: "ecs", images: "codebuild" })).toEqual([
      "ci.steps: steps: ecs and images: codebuild needs environment, whose AWS account is used: with runtime: ecs there is production",
    ]);
    expect(problemsOf({ environments: { staging: {} }, ci: { images: "codebuild" } } as object)).toContain(
      "ci.images: images: codebuild needs environment, whose AWS account is used: none here has runtime: ecs",
    );
  });

  it("refuses an environment that is not there, or not on ECS, with one that is", () => {
    expect(problemsIn({ steps: "ecs", environment: "prodution" })).toEqual([
      'ci.environment: there is no environment "prodution": did you mean "production"?',
    ]);
    expect(problemsIn({ steps: "ecs", environment: "staging" })).toEqual([
      "ci.environment: staging runs on Docker, so it has no AWS account: with runtime: ecs there is production",
    ]);
  });

  it("takes no environment where nothing would use it", () => {
    expect(problemsIn({ environment: "production" })).toEqual([
      "ci.environment: environment needs steps: ecs or images: codebuild, which use its AWS account",
    ]);
  });
});

describe("notesOn", () => {
  it("mentions what is allowed and may surprise", () => {
    const spec = AppSpec.parse({
      app: "shop",
      services: { web: { image: "a", port: 80, hostPort: 80, downtime: "accept" }, job: { image: "a" } },
      environments: { byhand: {}, main: { branch: "main" } },
    });
    expect(notesOn(spec)).toEqual([
      expect.stringContaining("environment byhand has neither branch nor tag"),
      expect.stringContaining("service web declares no health check"),
      expect.stringContaining("service web has a hostPort"),
    ]);
  });
});

describe("what Terraform is handed", () => {
  const parse = (infra: object) =>
    AppSpec.safeParse({
      app: "shop",
      services: { web: { image: "a" } },
      environments: { production: { infra: { dir: "infra", ...infra } } },
    });

  it.each(["SHIPWAY_SERVER", "SHIPWAY_TOKEN", "TF_HTTP_PASSWORD", "PATH"])(
    "has no %s of the user's: Shipway sets that one itself",
    (name) => {
      const refused = [parse({ env: { [name]: "mine" } }), parse({ secrets: [name] })];
      for (const { error } of refused) expect(error?.message).toContain("Shipway sets this one itself");
    },
  );

  it("may be a token of the user's own as a Terraform variable", () => {
    expect(parse({ secrets: ["TF_VAR_shipway_token"] }).success).toBe(true);
  });
});
