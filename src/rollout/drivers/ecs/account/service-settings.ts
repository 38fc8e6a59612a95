import type { CreateServiceCommandInput, Service } from "@aws-sdk/client-ecs";

/** What every ECS service of ours is made with, whatever it runs. */
export const ALWAYS = {
  deploymentConfiguration: {
    minimumHealthyPercent: 100,
    maximumPercent: 200,
    // It stops starting what cannot start. It must not roll back: a slot that quietly holds the wrong release would look healthy.
    deploymentCircuitBreaker: { enable: true, rollback: false },
  },
  availabilityZoneRebalancing: "ENABLED",
  enableECSManagedTags: true,
  propagateTags: "SERVICE",
} as const satisfies Partial<CreateServiceCommandInput>;

/** As text by path, to compare and to show. What AWS does not say is not in it. */
export type ServiceSettings = Record<string, string>;

type Told = Partial<
  Pick<
    Service,
    | "availabilityZoneRebalancing"
    | "capacityProviderStrategy"
    | "deploymentConfiguration"
    | "enableECSManagedTags"
    | "healthCheckGracePeriodSeconds"
    | "launchType"
    | "propagateTags"
  >
>;

/** Of an ECS service as it is, or of what it is made with: equal settings give equal texts. */
export function serviceSettings(told: Told): ServiceSettings {
  const { deploymentConfiguration: deployment, healthCheckGracePeriodSeconds: graceS } = told;
  const settings = {
    capacity: capacityOf(told),
    "deployment.minimumHealthyPercent": percent(deployment?.minimumHealthyPercent),
    "deployment.maximumPercent": percent(deployment?.maximumPercent),
    "deployment.circuitBreaker": deployment && breakerOf(deployment.deploymentCircuitBreaker),
    healthCheckGracePeriod: graceS === undefined ? undefined : `${graceS} s`,
    propagateTags: told.propagateTags,
    managedTags: told.enableECSManagedTags === undefined ? undefined : onOff(told.enableECSManagedTags),
    zoneRebalancing: told.availabilityZoneRebalancing,
  };
  return Object.fromEntries(Object.entries(settings).filter((one): one is [string, string] => one[1] !== undefined));
}

const percent = (value: number | undefined) => (value === undefined ? undefined : `${value} %`);
const onOff = (isOn: boolean): string => (isOn ? "on" : "off");

function breakerOf(breaker: { enable: boolean | undefined; rollback: boolean | undefined } | undefined): string {
  if (breaker?.enable !== true) return "off";
  return breaker.rollback === true ? "on, and rolls back" : "on";
}

/** The launch type FARGATE and its provider alone are the same capacity. */
function capacityOf({ capacityProviderStrategy: providers = [], launchType }: Told): string | undefined {
  if (providers.length === 0) return launchType;
  if (providers.every(({ capacityProvider }) => capacityProvider === "FARGATE")) return "FARGATE";
  return providers
    .map(({ capacityProvider, base = 0, weight = 0 }) =>
      [capacityProvider, ...(base > 0 ? [`the first ${base}`] : []), ...(weight > 0 ? [`weight ${weight}`] : [])].join(
        " ",
      ),
    )
    .sort()
    .join(", ");
}
