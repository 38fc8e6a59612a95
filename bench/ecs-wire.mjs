/**
 * What AWS answers to a control plane that watches: an in-process stand-in for the wire of ECS and the load balancer, in the form the SDK reads. It knows
 * services and rules that never change, each with as many events beside it as AWS keeps, and nothing else.
 */
const REGION = "eu-central-1";
const ACCOUNT = "123456789012";
/** Two target groups a web service, and 100 target groups a load balancer: AWS does not raise that (Elastic Load Balancing, quotas). */
export const SERVICES_A_LISTENER = 50;
const EVENTS = 100;

export const listenerArn = (number) =>
  `arn:aws:elasticloadbalancing:${REGION}:${ACCOUNT}:listener/app/bench-${number}/0123456789abcdef/0123456789abcdef`;

/** `names` gives the driver's names of things for a place. */
export function newWire(places, names) {
  const services = new Map();
  const rules = new Map();
  for (const [index, place] of places.entries()) {
    const groups = ["a", "b"].map(
      (slot) =>
        `arn:aws:elasticloadbalancing:${REGION}:${ACCOUNT}:targetgroup/${names.targetGroup(place, slot)}/0123456789abcdef`,
    );
    const listener = listenerArn(Math.floor(index / SERVICES_A_LISTENER));
    const rule = `${listener.replace(":listener/", ":listener-rule/")}/${index.toString(16).padStart(16, "0")}`;
    for (const [at, slot] of ["a", "b"].entries()) {
      const service = serviceOf(names.service(place, slot), { ...names, place, slot, rule, group: groups[at] });
      services.set(service.serviceName, service);
    }
    rules.set(listener, [...(rules.get(listener) ?? []), ruleXml(rule, groups, names.host(place), index)]);
  }
  const listed = [...services.keys()];
  const answers = {
    ListServices({ nextToken, maxResults }) {
      const from = Number(nextToken ?? 0);
      const page = listed.slice(from, from + maxResults);
      const next = from + maxResults < listed.length ? { nextToken: String(from + maxResults) } : {};
      return { serviceArns: page.map((name) => services.get(name).serviceArn), ...next };
    },
    DescribeTaskDefinition: ({ taskDefinition }) => names.definition(taskDefinition),
    DescribeServices({ services: asked }) {
      return { services: asked.flatMap((name) => services.get(name) ?? []), failures: [] };
    },
  };
  return {
    async handle(request) {
      const body = typeof request.body === "string" ? request.body : new TextDecoder().decode(request.body);
      const target = request.headers["x-amz-target"];
      if (target !== undefined) {
        const answer = answers[target.split(".").at(-1)];
        if (answer === undefined) throw new Error(`the wire of this bench does not know ${target}`);
        return reply("application/x-amz-json-1.1", JSON.stringify(answer(JSON.parse(body))));
      }
      const asked = new URLSearchParams(body);
      if (asked.get("Action") !== "DescribeRules") throw new Error(`the wire of this bench does not know ${body}`);
      const found = (rules.get(asked.get("ListenerArn")) ?? []).join("");
      return reply(
        "text/xml",
        `<DescribeRulesResponse xmlns="http://elasticloadbalancing.amazonaws.com/doc/2015-12-01/"><DescribeRulesResult><Rules>${found}</Rules></DescribeRulesResult><ResponseMetadata><RequestId>1</RequestId></ResponseMetadata></DescribeRulesResponse>`,
      );
    },
    httpHandlerConfigs: () => ({}),
    updateHttpClientConfig: () => undefined,
    destroy: () => undefined,
  };
}

const reply = (type, text) => ({
  response: { statusCode: 200, headers: { "content-type": type }, body: Buffer.from(text) },
});

/** Slot b serves r2, and slot a is empty: the standby's time is over. */
function serviceOf(serviceName, { install, place, slot, rule, group, family }) {
  const isLive = slot === "b";
  const count = isLive ? 1 : 0;
  const taskDefinition = `arn:aws:ecs:${REGION}:${ACCOUNT}:task-definition/${family(place, isLive ? 2 : 1)}:1`;
  return {
    serviceName,
    serviceArn: `arn:aws:ecs:${REGION}:${ACCOUNT}:service/bench/${serviceName}`,
    status: "ACTIVE",
    desiredCount: count,
    runningCount: count,
    pendingCount: 0,
    taskDefinition,
    launchType: "FARGATE",
    deploymentConfiguration: {
      minimumHealthyPercent: 100,
      maximumPercent: 200,
      deploymentCircuitBreaker: { enable: true, rollback: false },
    },
    deployments: [
      {
        id: "ecs-svc/1234567890123456789",
        status: "PRIMARY",
        taskDefinition,
        desiredCount: count,
        runningCount: count,
        pendingCount: 0,
        failedTasks: 0,
        rolloutState: "COMPLETED",
        rolloutStateReason: "ECS deployment ecs-svc/1234567890123456789 completed.",
      },
    ],
    loadBalancers: [{ targetGroupArn: group, containerName: "web", containerPort: 3000 }],
    networkConfiguration: {
      awsvpcConfiguration: { subnets: ["subnet-1"], securityGroups: ["sg-1"], assignPublicIp: "DISABLED" },
    },
    enableExecuteCommand: false,
    events: Array.from({ length: EVENTS }, (_, index) => ({
      id: `00000000-0000-0000-0000-${String(index).padStart(12, "0")}`,
      createdAt: 1_780_000_000 - index * 21_600,
      message: `(service ${serviceName}) has reached a steady state.`,
    })),
    tags: [
      { key: "shipway:install", value: install },
      { key: "shipway:app", value: place.app },
      { key: "shipway:environment", value: place.environment },
      { key: "shipway:service", value: "web" },
      { key: "shipway:slot", value: slot },
      { key: "shipway:rule", value: rule },
    ],
  };
}

const ruleXml = (arn, groups, host, index) =>
  `<member><RuleArn>${arn}</RuleArn><Priority>${1_000 + index}</Priority><IsDefault>false</IsDefault><Conditions><member><Field>host-header</Field><Values><member>${host}</member></Values><HostHeaderConfig><Values><member>${host}</member></Values></HostHeaderConfig></member></Conditions><Actions><member><Type>forward</Type><ForwardConfig><TargetGroups>${groups
    .map(
      (group, at) => `<member><TargetGroupArn>${group}</TargetGroupArn><Weight>${at === 1 ? 100 : 0}</Weight></member>`,
    )
    .join("")}</TargetGroups></ForwardConfig></member></Actions></member>`;
