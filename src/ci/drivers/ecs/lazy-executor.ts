import type { StepExecutor } from "../../executor.ts";

/** An executor that is opened when it is first asked for something. One that could not be opened is tried again by whoever asks next. */
export function lazyExecutor(open: () => Promise<StepExecutor>): StepExecutor {
  let opened: Promise<StepExecutor> | undefined;
  const executor = (): Promise<StepExecutor> => {
    opened ??= open().catch((error: unknown) => {
      opened = undefined;
      throw error;
    });
    return opened;
  };
  return {
    runStep: async (context, step, log, options) => (await executor()).runStep(context, step, log, options),
    cleanUp: async (runId) => (await executor()).cleanUp(runId),
    forget: async (app) => (await executor()).forget(app),
    runs: async () => (await executor()).runs(),
  };
}
