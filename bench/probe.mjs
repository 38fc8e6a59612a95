import { Agent, request } from "node:http";
import { performance } from "node:perf_hooks";
import { setTimeout as sleep } from "node:timers/promises";

const TIMEOUT_MS = 5_000;

/** One request, with the time it was sent and answered. `status` 0 is no answer. */
export function ask({ address = "127.0.0.1", port, host, agent = false }) {
  const sentAt = performance.now();
  return new Promise((resolve) => {
    const end = (status, body) => resolve({ sentAt, answeredAt: performance.now(), status, body });
    const call = request(
      { host: address, port, path: "/", agent, timeout: TIMEOUT_MS, headers: { host } },
      (response) => {
        let body = "";
        response.setEncoding("utf8");
        response.on("data", (chunk) => (body += chunk));
        response.on("error", () => end(0, ""));
        response.on("end", () => end(response.statusCode, body));
      },
    );
    call.on("timeout", () => call.destroy());
    call.on("error", () => end(0, ""));
    call.end();
  });
}

/** Asks every few milliseconds until the answer is 200 with this text; resolves with the time of that answer. */
export async function untilAnswers(target, text, { everyMs = 10, withinMs = 120_000 } = {}) {
  const endsAt = performance.now() + withinMs;
  for (;;) {
    const { status, body, answeredAt } = await ask(target);
    if (status === 200 && body === text) return answeredAt;
    if (performance.now() > endsAt)
      throw new Error(`no ${JSON.stringify(text)} within ${withinMs} ms: ${status} ${body}`);
    await sleep(everyMs);
  }
}

/** A request every 2 ms, in turn over kept-alive connections and over fresh ones, until stopped. */
export function startProber(target) {
  const kept = new Agent({ keepAlive: true, maxSockets: 8 });
  const answers = [];
  const open = new Set();
  let sent = 0;
  const timer = setInterval(() => {
    // A machine that cannot keep up must not pile up requests: they would measure the pile.
    if (open.size >= 16) return;
    sent += 1;
    const one = ask({ ...target, agent: sent % 2 === 0 ? kept : false }).then((answer) => {
      answers.push(answer);
      open.delete(one);
    });
    open.add(one);
  }, 2);
  return async () => {
    clearInterval(timer);
    await Promise.all(open);
    kept.destroy();
    return answers;
  };
}
