import { mkdtemp, rm } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import grpc from "@grpc/grpc-js";
import type { Provider } from "./define-provider.ts";
import { CALLS, codecOf, type ProviderCalls } from "./messages.ts";
import { providerCalls } from "./provider-calls.ts";

export type Listening = {
  /** Of the Unix socket. */
  path: string;
  /** Calls under way end first, for up to half a second; the socket is gone afterwards. */
  close(): Promise<void>;
};

/** What Terraform itself allows for an answer; a schema or a state larger than gRPC's own 4 MiB must come through. */
const LARGEST_MESSAGE_BYTES = 256 * 1024 * 1024;
const CLOSE_WITHIN_MS = 500;

/** Serves a provider on a new Unix socket below `dir`. */
export async function listen<Client>(
  provider: Provider<Client>,
  options: {
    dir: string;
    credentials: grpc.ServerCredentials;
    report(text: string): void;
    /** Terraform asks for the end; the answer is sent before. */
    onShutdown(): void;
  },
): Promise<Listening> {
  const server = new grpc.Server({
    "grpc.max_receive_message_length": LARGEST_MESSAGE_BYTES,
    "grpc.max_send_message_length": LARGEST_MESSAGE_BYTES,
  });
  serveCalls(server, providerCalls(provider, options.report), options.report);
  server.addService(
    { Shutdown: method("plugin.GRPCController", "Shutdown", "Empty", "Empty") },
    {
      Shutdown: (_call: unknown, answer: grpc.sendUnaryData<object>) => {
        answer(null, {});
        setImmediate(options.onShutdown);
      },
    },
  );
  const dir = await mkdtemp(join(options.dir, "shipway-provider-"));
  const path = join(dir, "socket");
  const bind: (address: string, credentials: grpc.ServerCredentials) => Promise<number> = promisify(
    server.bindAsync.bind(server),
  );
  await bind(`unix:${path}`, options.credentials);
  return {
    path,
    async close() {
      const forced = setTimeout(() => server.forceShutdown(), CLOSE_WITHIN_MS);
      await new Promise<void>((resolve) => server.tryShutdown(() => resolve()));
      clearTimeout(forced);
      await rm(dir, { recursive: true, force: true });
    },
  };
}

function serveCalls(server: grpc.Server, calls: ProviderCalls, report: (text: string) => void): void {
  const names = Object.keys(CALLS) as (keyof typeof CALLS)[];
  const definition = names.map((name) => {
    const [ask, answer] = CALLS[name];
    return [name, method("tfplugin6.Provider", name, ask, answer)] as const;
  });
  const handlers = names.map((name) => [
    name,
    (call: { request: never }, answer: grpc.sendUnaryData<object>) => {
      (calls[name] as (ask: never) => Promise<object>)(call.request).then(
        (value) => answer(null, value),
        (error: unknown) => {
          report(error instanceof Error ? (error.stack ?? error.message) : String(error));
          answer({ code: grpc.status.INTERNAL, details: `The provider failed in ${name}; see Terraform's log.` });
        },
      );
    },
  ]);
  server.addService(Object.fromEntries(definition), Object.fromEntries(handlers));
}

function method(service: string, name: string, ask: string, answer: string): grpc.MethodDefinition<object, object> {
  const [asked, answered] = [codecOf(ask), codecOf(answer)];
  return {
    path: `/${service}/${name}`,
    requestStream: false,
    responseStream: false,
    requestSerialize: asked.encode,
    requestDeserialize: asked.decode,
    responseSerialize: answered.encode,
    responseDeserialize: answered.decode,
  };
}
