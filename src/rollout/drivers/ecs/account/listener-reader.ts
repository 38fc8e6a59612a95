import type { Rule as ListenerRule } from "@aws-sdk/client-elastic-load-balancing-v2";
import type { AwsClients } from "../aws-clients.ts";

/** A DescribeRules page has at most 400 (Elastic Load Balancing API, DescribeRules, `PageSize`). */
const RULES_A_PAGE = 400;

export type ListenerReader = ReturnType<typeof newListenerReader>;

/** Reads the rules of one listener for all environments behind it, and keeps them with the moment they were read. */
export function newListenerReader({ elb }: Pick<AwsClients, "elb">, listener: string) {
  let known: { readAt: number; rules: ListenerRule[] } | undefined;
  let reading: { startedAt: number; rules: Promise<ListenerRule[]> } | undefined;

  async function read(readAt: number): Promise<ListenerRule[]> {
    const rules: ListenerRule[] = [];
    let marker: string | undefined;
    do {
      const page = await elb.describeRules({
        ListenerArn: listener,
        PageSize: RULES_A_PAGE,
        ...(marker && { Marker: marker }),
      });
      rules.push(...(page.Rules ?? []));
      marker = page.NextMarker;
    } while (marker);
    known = { readAt, rules };
    return rules;
  }

  return {
    /** All rules of the listener as they were at `since` (ms since 1970) or later. */
    async rules(since: number): Promise<ListenerRule[]> {
      if (known !== undefined && known.readAt >= since) return known.rules;
      const startedAt = Date.now();
      if (reading === undefined || reading.startedAt < since) reading = { startedAt, rules: read(startedAt) };
      const own = reading;
      try {
        return await own.rules;
      } finally {
        if (reading === own) reading = undefined;
      }
    },

    /** The rules as they were read within the last `withinMs`, if they were. */
    lately: (withinMs: number): ListenerRule[] | undefined =>
      known !== undefined && known.readAt >= Date.now() - withinMs ? known.rules : undefined,

    /** One was written: what is known is out of date. */
    forget(): void {
      known = undefined;
      reading = undefined;
    },
  };
}
