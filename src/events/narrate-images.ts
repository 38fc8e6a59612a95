import { z } from "zod";
import { formatDurationMs } from "../shared/duration.ts";
import type { StoredEvent } from "./event.ts";
import { hint, quoteLine, wrap } from "./narrated-line.ts";

const SHOWN_LINES = 12;

const Started = z.object({ service: z.string() });
const Built = z.object({ service: z.string(), durationMs: z.number() });
const Failed = z.object({
  service: z.string(),
  failure: z.object({
    message: z.string(),
    dockerfileLine: z.number().optional(),
    lastLines: z.array(z.string()),
  }),
});

/** An image that was there already is not worth a line of its own: the release says it. */
export function narrateImages(event: StoredEvent): string[] {
  switch (event.kind) {
    case "image.started": {
      const { data } = Started.safeParse(event.data);
      return data === undefined ? [] : [`  … building ${data.service}`];
    }
    case "image.built": {
      const { data } = Built.safeParse(event.data);
      return data === undefined ? [] : [`✓ image ${data.service} built in ${formatDurationMs(data.durationMs)}`];
    }
    case "image.failed": {
      const { data } = Failed.safeParse(event.data);
      return data === undefined ? [] : failedBuild(data, event);
    }
    default:
      return [];
  }
}

function failedBuild({ service, failure }: z.output<typeof Failed>, { deliveryId }: StoredEvent): string[] {
  const line = failure.dockerfileLine;
  // A failed instruction is quoted with its line already.
  const where = line === undefined || failure.message.includes(`:${line}:`) ? "" : ` (Dockerfile, line ${line})`;
  return [
    ...wrap("✗ ", `image ${service} could not be built${where}: ${failure.message}`),
    ...failure.lastLines.slice(-SHOWN_LINES).map(quoteLine),
    ...(deliveryId === null ? [] : [hint(`\`shipway logs --build ${deliveryId} --service ${service}\``)]),
  ];
}
