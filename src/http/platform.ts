import type { Secrets } from "../environment/secrets.ts";
import type { EventStream } from "../events/event-stream.ts";
import type { LogStore } from "../events/log-store.ts";
import type { ImagePublisher } from "../image/publisher.ts";
import type { InfraDeps } from "../infra/run-terraform.ts";
import type { StartedRun } from "../infra/runs.ts";
import type { NotifyDeps } from "../notify/deliver.ts";
import type { StartedTeardown } from "../release/teardowns.ts";
import type { ServiceUse } from "../rollout/measurement.ts";
import type { RolloutTarget } from "../rollout/target.ts";
import type { Repositories } from "../source/repositories.ts";
import type { Store } from "../store/open-store.ts";
import type { Backings } from "../workflow/backings.ts";
import type { Execs } from "../workflow/execs.ts";

/** What the HTTP edge calls: the domains, wired by main.ts. */
export type Platform = {
  version: string;
  instance: string;
  store: Store;
  events: EventStream;
  logs: LogStore;
  secrets: Secrets;
  backings: Backings;
  target: RolloutTarget;
  execs: Execs;
  /** Where images were pushed to, by its name. */
  publisherAt(registry: string): Pick<ImagePublisher, "removeApp">;
  /** Removes what pipelines of an app left and kept, wherever they ran. */
  forgetCi(app: string): Promise<void>;
  /** Removes the app's images from this server's engine. */
  forgetImages(app: string): Promise<void>;
  repositories: Repositories;
  infra: InfraDeps;
  notify: NotifyDeps;
  /** Hands recorded work to the durable engine. */
  engine: {
    startDelivery(changeId: string): Promise<void>;
    startDeployment(deploymentId: string): Promise<void>;
    startInfra(run: StartedRun): Promise<void>;
    startTaskRun(runId: string): Promise<void>;
    startTeardown(teardown: StartedTeardown): Promise<void>;
    startPipeline(key: string): Promise<void>;
  };
  /** The container engine, whose version is undefined when it does not answer; undefined for a Shipway that runs without one. */
  docker: { version(): Promise<string | undefined>; latestUse(): ServiceUse[] } | undefined;
  /** Where the API answers, such as `http://127.0.0.1:7420`. */
  apiUrl: string;
  /** What others are told of it where they ask another address, such as a load balancer's; undefined where they ask this server itself. */
  publicUrl: string | undefined;
  /** Where the apps answer. */
  httpPort: number;
  dataDir: string;
  startedAt: number;
};
