import { createHmac, randomBytes } from "node:crypto";
import type { AwsOptions } from "../../../aws/calls.ts";
import type { Place } from "../../release.ts";
import type { EcsSettings } from "../../runtime.ts";
import type { RolloutTarget } from "../../target.ts";
import { openAws } from "./aws-clients.ts";
import { openEcsTarget } from "./ecs-target.ts";
import type { EcsTimes } from "./ground.ts";
import { logGroupName } from "./names.ts";
import { withPublicErrors } from "./public-errors.ts";
import { findLeft } from "./removal/sweep.ts";
import { tagsFor } from "./tags.ts";

/** No server calls itself so: what a smoke test makes is neither taken for a server's nor touched by one. */
const INSTALL = "smoke-test";

/** What a smoke test needs of an account: the real driver, and what it looks at beside it. */
export async function openSmokeAccount(
  given: EcsSettings,
  options: { aws?: Omit<AwsOptions, "region" | "onCall">; times?: Partial<EcsTimes> } = {},
) {
  // What is forgotten after all costs nothing for long.
  const settings = { ...given, logRetentionDays: 1 };
  const calls: { at: number; service: string; command: string }[] = [];
  const onCall = ({ service, command }: { service: string; command: string }) =>
    void calls.push({ at: Date.now(), service, command });
  const key = randomBytes(32);
  const target: RolloutTarget = await openEcsTarget({
    settings,
    install: INSTALL,
    fingerprint: (text) => createHmac("sha256", key).update(text).digest("hex"),
    aws: { ...options.aws, onCall },
    ...(options.times && { times: options.times }),
  });
  const aws = await openAws({ ...options.aws, region: settings.region });
  const looks = withPublicErrors(aws, {
    /** Environments of this app that were begun and not removed. Their log group is made first and removed last, so it is there as long as anything is. */
    async begun(app: string): Promise<{ environment: string; at: number }[]> {
      const prefix = logGroupName(INSTALL, { app, environment: "" });
      const found: { environment: string; at: number }[] = [];
      let nextToken: string | undefined;
      do {
        const page = await aws.logs.describeLogGroups({ logGroupNamePrefix: prefix, ...(nextToken && { nextToken }) });
        for (const { logGroupName: name = "", creationTime = 0 } of page.logGroups ?? [])
          found.push({ environment: name.slice(prefix.length), at: creationTime });
        nextToken = page.nextToken;
      } while (nextToken);
      return found;
    },

    left: (place: Place): Promise<string[]> => findLeft(aws, tagsFor(INSTALL, place)),

    /** Where requests enter. */
    async balancerAddress(): Promise<{ host: string; port: number; secure: boolean }> {
      const { Listeners } = await aws.elb.describeListeners({ ListenerArns: [settings.listener] });
      const { LoadBalancerArn = "", Port = 80, Protocol } = Listeners?.[0] ?? {};
      const { LoadBalancers } = await aws.elb.describeLoadBalancers({ LoadBalancerArns: [LoadBalancerArn] });
      return { host: LoadBalancers?.[0]?.DNSName ?? "", port: Port, secure: Protocol === "HTTPS" };
    },
  });
  return { target, calls, ...looks };
}
