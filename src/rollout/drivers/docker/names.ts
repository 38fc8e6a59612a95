import type { Place } from "../../release.ts";

/** What a container is for. `task` serves or works, `oneoff` runs a command of a deployment to its end, `run` one that a person asked for, `backing` keeps data. */
export type Role = "task" | "oneoff" | "run" | "backing";

export const LABEL = {
  instance: "shipway.instance",
  app: "shipway.app",
  environment: "shipway.env",
  service: "shipway.service",
  release: "shipway.release",
  task: "shipway.task",
  role: "shipway.role",
  /** Key of a one-off run. */
  run: "shipway.run",
  /** What a container was made from, as a hash. */
  spec: "shipway.spec",
  /** Of a backing service's volume: which engine made the data. */
  engine: "shipway.engine",
} as const;

/** The one instance of an engine needs no prefix; a second one beside it does. */
const DEFAULT_INSTANCE = "default";

/** Container names are global to an engine. */
export function prefixed(instance: string, name: string): string {
  return instance === DEFAULT_INSTANCE ? name : `${instance}-${name}`;
}

export function networkName(instance: string, place: Place): string {
  return `shipway-${prefixed(instance, `${place.app}.${place.environment}`)}`;
}

export function backingName(instance: string, place: Place, name: string): string {
  return prefixed(instance, `${place.app}.${place.environment}.${name}`);
}

export function volumeName(instance: string, place: Place, name: string): string {
  return `shipway-${backingName(instance, place, name)}`;
}

/** With dots, since names may contain dashes: `a-b` in `c` must not meet `a` in `b-c`. */
export function backendName(place: Place, service: string): string {
  return `${placePrefix(place)}${service}`;
}

/** Where tasks are proved whose health check differs from the one of the tasks that serve. */
export function provingBackendName(place: Place, service: string, release: number): string {
  return `${backendName(place, service)}.r${release}`;
}

/** What the names of all back ends of a place begin with. */
export function placePrefix(place: Place): string {
  return `${place.app}.${place.environment}.`;
}

/** The release in a task's name. */
export function releaseOfTask(task: string): number | undefined {
  const match = /\.r(\d+)-\d+$/.exec(task);
  return match?.[1] === undefined ? undefined : Number(match[1]);
}

export function placeLabels(instance: string, place: Place): Record<string, string> {
  return { [LABEL.instance]: instance, [LABEL.app]: place.app, [LABEL.environment]: place.environment };
}

/** As the engine's list filters want them. */
export function labelFilter(labels: Record<string, string>): string[] {
  return Object.entries(labels).map(([name, value]) => `${name}=${value}`);
}
