import { tmpdir } from "node:os";
import grpc from "@grpc/grpc-js";
import type { Provider } from "./define-provider.ts";
import { listen } from "./listen.ts";

export type Reattached = {
  /** The value of TF_REATTACH_PROVIDERS. */
  reattach: string;
  close(): Promise<void>;
};

/**
 * Serves a provider in this process to any number of runs of Terraform, one after the other: no handshake, no TLS, no start of a process. For tests; a
 * run with it writes no lock file. The last run's configuration counts for whoever comes while it is there.
 */
export async function serveReattach<Client>(
  provider: Provider<Client>,
  report: (text: string) => void = () => undefined,
): Promise<Reattached> {
  const credentials = grpc.ServerCredentials.createInsecure();
  // Terraform says goodbye after every command; the next one finds us here.
  const { path, close } = await listen(provider, {
    dir: tmpdir(),
    credentials,
    report,
    onShutdown: () => undefined,
  });
  const address = {
    Protocol: "grpc",
    ProtocolVersion: 6,
    Pid: process.pid,
    // Or Terraform would kill this process when it is done.
    Test: true,
    Addr: { Network: "unix", String: path },
  };
  return { reattach: JSON.stringify({ [provider.address]: address }), close };
}
