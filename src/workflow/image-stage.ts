import type { Sealer } from "../environment/sealing.ts";
import type { Secrets } from "../environment/secrets.ts";
import { appendEvent } from "../events/event-stream.ts";
import type { LogStore } from "../events/log-store.ts";
import { maskQuotes, newMask } from "../events/mask-secrets.ts";
import { withoutGiven } from "../events/without-given.ts";
import type { Staged } from "../flow.ts";
import { type BuildImagesOutcome, buildImages, type ImageEvent } from "../image/build-images.ts";
import type { ImageBuilder } from "../image/builder.ts";
import { planImages } from "../image/plan-images.ts";
import type { DeliveredChange } from "../release/deliveries.ts";
import { buildLogId } from "../release/log-ids.ts";
import type { LogSink } from "../shared/log-line.ts";
import type { Repositories } from "../source/repositories.ts";
import type { AppSpec } from "../spec/app-spec.ts";
import type { CiSettings } from "../spec/ci-settings.ts";
import type { Store } from "../store/open-store.ts";
import type { RecordedImage } from "../store/schema.ts";
import { findCiSettings } from "./ci-settings.ts";

export type ImageDeps = {
  store: Store;
  repositories: Repositories;
  secrets: Secrets;
  sealer: Sealer;
  logs: LogStore;
  /** By where images are built. */
  builderOf(images: CiSettings["images"]): ImageBuilder;
  /** First part of the images' names. */
  namespace: string;
};

type Mask = (text: string) => string;
type Logs = { sinkOf(service: string): LogSink; close(): Promise<void> };

/** Lines that are compared with what a build prints that went on while Shipway was away. */
const COMPARED_LINES = 2_000;

/** Builds what the spec wants to be built and finds what is ready, each service's output in a log of its own. */
export async function buildRelease(
  deps: ImageDeps,
  change: DeliveredChange,
  spec: AppSpec,
): Promise<Staged<RecordedImage[]>> {
  const { namespace, repositories } = deps;
  const source = { namespace, app: change.app, services: spec.services, commit: change.commit };
  const [plans, secrets, ci] = await Promise.all([
    planImages({ ...source, repositoryDir: repositories.dirOf(change.app) }, repositories.git),
    deps.secrets.allOfApp(change.app),
    findCiSettings(deps.store.db, deps.sealer, spec),
  ]);
  const builder = deps.builderOf(ci.images);
  const mask = newMask(secrets);
  const logs = await openLogs(deps.logs, change, Object.keys(spec.services), mask);
  const frame = { app: change.app, subject: `change:${change.id}`, deliveryId: change.id, actor: change.actor };
  const onEvent = (event: ImageEvent) =>
    appendEvent(deps.store.db, frame, { kind: `image.${event.kind}`, data: maskQuotes(event, mask) });
  try {
    const [outcome, fetched] = await Promise.all([
      buildImages(plans, builder, { logFor: logs.sinkOf, onEvent }),
      fetchReady(builder, spec, logs),
    ]);
    if (outcome.status === "failed") return buildFailed(change, outcome, mask);
    const built = outcome.images.map(({ service, name, digest, reference, reused }) => ({
      service,
      name,
      digest,
      ...(reference !== undefined && { reference }),
      reused,
    }));
    return { ok: true, value: [...built, ...fetched] };
  } finally {
    await logs.close();
  }
}

function fetchReady(builder: ImageBuilder, { services }: AppSpec, logs: Logs): Promise<RecordedImage[]> {
  const ready = Object.entries(services).flatMap(([service, { image }]) =>
    image === undefined ? [] : [{ service, image }],
  );
  return Promise.all(
    ready.map(async ({ service, image }) => {
      const found = await builder.fetch(image, logs.sinkOf(service));
      return { service, name: image, ...found, reused: true };
    }),
  );
}

/** A build away from this machine goes on while Shipway is restarted, and then tells everything again: what is stored is left out. */
async function openLogs(store: LogStore, { id }: DeliveredChange, services: string[], mask: Mask): Promise<Logs> {
  const opened = await Promise.all(
    services.map(async (service) => {
      const logId = buildLogId(id, service);
      const writer = await store.open(logId, mask);
      const from = Math.max(0, writer.linesBefore - COMPARED_LINES);
      const before = writer.linesBefore === 0 ? [] : await store.read(logId, from, COMPARED_LINES);
      return { service, writer, sink: withoutGiven(writer.sink, before, mask, { withMeta: true }) };
    }),
  );
  return {
    sinkOf: (name) => opened.find(({ service }) => service === name)?.sink ?? (() => undefined),
    async close() {
      await Promise.all(opened.map(({ writer }) => writer.close()));
    },
  };
}

function buildFailed(
  { app, id }: DeliveredChange,
  { failures }: Extract<BuildImagesOutcome, { status: "failed" }>,
  mask: Mask,
): Staged<never> {
  const [first] = failures;
  return {
    ok: false,
    problem: {
      code: "BUILD_FAILED",
      message: failures
        .map(({ service, message }) => `The image of ${service} could not be built: ${mask(message)}`)
        .join("\n"),
      hint: `Read the whole output with \`shipway logs --app ${app} --build ${id} --service ${first?.service ?? ""}\`.`,
    },
  };
}
