import { runtimesOf } from "../release/runtimes.ts";
import type { Place } from "../rollout/release.ts";
import { fail } from "../shared/errors.ts";
import type { Platform } from "./platform.ts";

/**
 * For answers that a person waits for: drivers go on trying for minutes where AWS or an engine says nothing, and whoever asked would by then have been told
 * that Shipway itself is gone.
 * @throws AWS_UNREACHABLE, DOCKER_UNREACHABLE
 */
export async function askRuntime<T>(
  { store }: Pick<Platform, "store">,
  place: Place,
  withinMs: number,
  work: Promise<T>,
): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<undefined>((resolve) => {
    timer = setTimeout(() => resolve(undefined), withinMs);
  });
  const answer = await Promise.race([work.then((value) => ({ value })), late]).finally(() => clearTimeout(timer));
  if (answer !== undefined) return answer.value;
  // Nobody waits for what comes of it.
  work.catch(() => undefined);
  const { current } = await runtimesOf(store.db, place);
  const seconds = Math.round(withinMs / 1_000);
  if (current.kind === "docker")
    throw fail("DOCKER_UNREACHABLE", {
      message: `The Docker Engine has not answered for ${seconds} s.`,
      hint: "Look whether it hangs: `docker info`.",
    });
  throw fail("AWS_UNREACHABLE", {
    message: `AWS has not answered for ${seconds} s what there is of ${place.app} ${place.environment}.`,
    hint: "What runs there goes on serving. Check that this server reaches AWS: `shipway doctor aws`.",
  });
}
