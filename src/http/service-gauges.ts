import { Gauge, type Registry } from "prom-client";
import type { ServiceUse } from "../rollout/measurement.ts";

const LABELS = ["app", "environment", "service", "release"] as const;

const GAUGES: { name: string; help: string; of(use: ServiceUse): number | null }[] = [
  { name: "tasks", help: "Tasks that run or stand by", of: ({ tasks }) => tasks },
  { name: "cpu_cores", help: "Processors kept busy by all tasks of a service", of: ({ cores }) => cores },
  { name: "memory_bytes", help: "Memory held by all tasks of a service", of: ({ memoryBytes }) => memoryBytes },
  { name: "memory_limit_bytes", help: "Memory given to all tasks", of: ({ memoryLimitBytes }) => memoryLimitBytes },
  {
    name: "requests_per_second",
    help: "Requests that tasks answered",
    of: ({ requestsPerSecond }) => requestsPerSecond,
  },
  { name: "errors_per_second", help: "Requests answered with 5xx", of: ({ errorsPerSecond }) => errorsPerSecond },
];

/** Gauges of services on Docker, from what was looked at last: a scrape costs nothing. What is not known has no line, which is not zero. */
export function addServiceGauges(registry: Registry, latestUse: () => ServiceUse[]): void {
  for (const { name, help, of } of GAUGES) {
    new Gauge({
      name: `shipway_service_${name}`,
      help,
      labelNames: LABELS,
      registers: [registry],
      collect() {
        this.reset();
        for (const use of latestUse()) {
          const value = of(use);
          const { app, environment, service, release } = use;
          if (value !== null) this.set({ app, environment, service, release: `r${release}` }, value);
        }
      },
    });
  }
}
