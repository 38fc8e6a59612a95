import type { Rule as ListenerRule, RuleCondition } from "@aws-sdk/client-elastic-load-balancing-v2";

/** What a rule of ours says beside its host names and its two target groups, by path; Shipway writes none of it. */
export function extrasOf({ Conditions = [], Actions = [] }: ListenerRule, ours: string[]): Record<string, string> {
  const conditions = Conditions.flatMap(conditionText);
  const groups = Actions.flatMap(({ ForwardConfig }) => ForwardConfig?.TargetGroups ?? []);
  const others = groups.map(({ TargetGroupArn }) => TargetGroupArn ?? "").filter((arn) => !ours.includes(arn));
  const actions = Actions.map(({ Type }) => Type ?? "").filter((type) => type !== "forward");
  const isSticky = Actions.some(({ ForwardConfig }) => ForwardConfig?.TargetGroupStickinessConfig?.Enabled === true);
  return {
    ...(conditions.length > 0 && { "rule.conditions": conditions.join("; ") }),
    ...(actions.length > 0 && { "rule.actions": actions.join(", ") }),
    ...(others.length > 0 && { "rule.targetGroups": others.join(", ") }),
    ...(isSticky && { "rule.stickiness": "on" }),
  };
}

/** Those of host names are compared apart; a pattern for one is no name. */
function conditionText(condition: RuleCondition): string[] {
  const { Field = "", HostHeaderConfig, HttpHeaderConfig, QueryStringConfig } = condition;
  if (Field === "host-header") {
    const { RegexValues = [] } = (HostHeaderConfig ?? {}) as { RegexValues?: string[] };
    return RegexValues.length === 0 ? [] : [`host-header ${RegexValues.join(", ")}`];
  }
  const pairs = QueryStringConfig?.Values?.map(({ Key, Value }) => `${Key ?? "*"}=${Value ?? ""}`);
  const plain =
    condition.PathPatternConfig ?? condition.HttpRequestMethodConfig ?? condition.SourceIpConfig ?? HttpHeaderConfig;
  const name = HttpHeaderConfig?.HttpHeaderName;
  const values = pairs ?? plain?.Values ?? condition.Values ?? [];
  return [[Field, ...(name === undefined ? [] : [name]), values.join(", ")].join(" ")];
}
