import { expect } from "vitest";
import type { Installation, Ran } from "./installation.ts";
import * as sample from "./sample-app.ts";

/** What git showed the user: the lines of the server, as it wrote them. */
export function told(ran: Ran): string {
  return ran.stderr
    .split("\n")
    .filter((line) => line.startsWith("remote:"))
    .map((line) => line.slice("remote: ".length).trimEnd())
    .join("\n");
}

export const hostOf = (app: string) => `web.production.${app}.localhost`;

/** An app with a good release in production. */
export async function liveApp(
  shipway: Installation,
  app: string,
  files: Record<string, string> = sample.files(app, "good"),
): Promise<string> {
  const checkout = await shipway.newApp(app, files);
  const pushed = await shipway.push(checkout);
  expect(told(pushed)).toContain("production runs r1");
  return checkout;
}

/**
 * Pushes a change that must not go live and returns what the user read, after it made sure that the release before it answered
 * every request meanwhile and that nothing of the new one is left in Docker.
 */
export async function pushBad(
  shipway: Installation,
  app: string,
  checkout: string,
  files: Record<string, string>,
): Promise<string> {
  const [before, page] = [await shipway.things(), await shipway.page(hostOf(app))];
  const traffic = shipway.traffic(hostOf(app));
  await shipway.commit(checkout, files, "Break it");
  const pushed = await shipway.push(checkout);
  const { total, failed } = await traffic.stop();
  const text = told(pushed);
  expect({ text, failed, served: total > 0 }).toEqual({ text, failed: 0, served: true });
  expect(await shipway.page(hostOf(app))).toEqual(page);
  expect(await shipway.things()).toEqual(before);
  // The commit is stored, whatever becomes of it.
  expect(pushed.code).toBe(0);
  return text;
}

/** The next good push works, with nobody having cleaned up. */
export async function pushGood(
  shipway: Installation,
  app: string,
  checkout: string,
  files: Record<string, string> = {},
): Promise<void> {
  const text = `good ${Math.random().toString(36).slice(2)}`;
  await shipway.commit(checkout, { ...sample.files(app, text), ...files }, "Mend it");
  const said = told(await shipway.push(checkout));
  expect(said).toMatch(/✓ live in .*\n(.*\n)*✓ done in /);
  expect((await shipway.page(hostOf(app))).body).toContain(text);
}
