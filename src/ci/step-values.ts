import type { PipelineContext, StepPlan, StepValues } from "./executor.ts";

/** A run, with what every step gets, and by deployment what only steps with that one get. */
export type RunContext = PipelineContext & { deployments?: Record<string, StepValues> };

/** The run as one of its steps knows it: nothing of other deployments is in it. A deployment's own value wins over that of every step. */
export function contextFor({ deployments = {}, ...run }: RunContext, { deployment }: StepPlan): PipelineContext {
  const own = deployment !== undefined && Object.hasOwn(deployments, deployment) ? deployments[deployment] : undefined;
  return own === undefined ? run : { ...run, ...over(own, run) };
}

/** Of one name the secret wins, whoever set a variable of that name beside it. */
export const withoutHidden = ({ variables, secrets }: StepValues): StepValues => ({
  variables: without(variables, secrets),
  secrets,
});

function over(own: StepValues, every: StepValues): StepValues {
  const { variables, secrets } = withoutHidden(own);
  return {
    variables: { ...without(every.variables, secrets), ...variables },
    secrets: { ...without(every.secrets, variables), ...secrets },
  };
}

function without<T>(values: Record<string, T>, hiding: Record<string, unknown>): Record<string, T> {
  return Object.fromEntries(Object.entries(values).filter(([name]) => !Object.hasOwn(hiding, name)));
}
