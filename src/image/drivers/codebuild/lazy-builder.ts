import type { ImageBuilder } from "../../builder.ts";

/** A builder that is opened when it is first asked for something. One that could not be opened is tried again by whoever asks next. */
export function lazyBuilder(open: () => Promise<ImageBuilder>): ImageBuilder {
  let opened: Promise<ImageBuilder> | undefined;
  const builder = (): Promise<ImageBuilder> => {
    opened ??= open().catch((error: unknown) => {
      opened = undefined;
      throw error;
    });
    return opened;
  };
  return {
    build: async (plan, log, signal) => (await builder()).build(plan, log, signal),
    fetch: async (reference, log, signal) => (await builder()).fetch(reference, log, signal),
    prune: async (app, keep) => (await builder()).prune(app, keep),
  };
}
