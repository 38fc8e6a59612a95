import grpc from "@grpc/grpc-js";
import { newCertificate } from "./certificate.ts";
import type { Provider } from "./define-provider.ts";
import { listen } from "./listen.ts";

/** What the program around a plugin is to it. */
export type PluginProcess = {
  env: { readonly [name: string]: string | undefined };
  /** For the socket, where Terraform names no other. */
  tempDir: string;
  /** Writes to standard output, which is Terraform's: nothing but the handshake may ever go there. */
  writeOut(text: string): void;
  /** Writes to standard error: what a person who starts the program reads, and Terraform's log. */
  writeErr(text: string): void;
  parentPid(): number;
  exit(code: number): void;
};

/** By it Terraform tells a plugin that it was started by Terraform (hashicorp/terraform, internal/plugin/serve.go). */
const COOKIE = {
  name: "TF_PLUGIN_MAGIC_COOKIE",
  value: "d602bf8f470bc67ca7faa0386276bbdd4330efaf76d1a219cb4d6991ca9872b2",
};
const CORE_PROTOCOL = 1;
const PLUGIN_PROTOCOL = 6;
const LOOK_FOR_PARENT_EVERY_MS = 500;

/**
 * Serves a provider as the plugin that Terraform starts: checks who starts it, listens on a Unix socket, with mutual TLS where Terraform offers its
 * certificate, and says so in one line on standard output (hashicorp/go-plugin, docs/internals.md). It ends when Terraform asks for it, and when
 * Terraform is gone without a word. The caller must ignore SIGINT: a Ctrl-C reaches the whole group, and Terraform tells us itself to stop.
 */
export async function servePlugin<Client>(provider: Provider<Client>, self: PluginProcess): Promise<void> {
  const refused = whyRefused(provider, self.env);
  if (refused !== undefined) {
    self.writeErr(`${refused}\n`);
    return self.exit(1);
  }
  const parent = self.parentPid();
  const clientCertificate = self.env.PLUGIN_CLIENT_CERT;
  const own = clientCertificate ? newCertificate() : undefined;
  const end = (): void => {
    clearInterval(watch);
    void listening.close().finally(() => self.exit(0));
  };
  const listening = await listen(provider, {
    dir: self.env.PLUGIN_UNIX_SOCKET_DIR || self.tempDir,
    credentials:
      clientCertificate && own
        ? grpc.ServerCredentials.createSsl(
            Buffer.from(clientCertificate),
            [{ private_key: Buffer.from(own.key), cert_chain: Buffer.from(own.pem) }],
            true,
          )
        : grpc.ServerCredentials.createInsecure(),
    report: (text) => self.writeErr(`${text}\n`),
    onShutdown: () => end(),
  });
  // Killed, Terraform leaves its plugins behind, and they get another parent.
  const watch = setInterval(() => {
    if (self.parentPid() !== parent) end();
  }, LOOK_FOR_PARENT_EVERY_MS);
  self.writeOut(`${handshake(listening.path, own?.der)}\n`);
}

/** The certificate without padding: Go's RawStdEncoding. */
function handshake(path: string, certificate: Buffer | undefined): string {
  const tls = certificate === undefined ? [] : [certificate.toString("base64").replace(/=+$/, "")];
  return [CORE_PROTOCOL, PLUGIN_PROTOCOL, "unix", path, "grpc", ...tls].join("|");
}

function whyRefused(provider: Provider<unknown>, env: PluginProcess["env"]): string | undefined {
  if (env[COOKIE.name] !== COOKIE.value) {
    return [
      `This is the Terraform provider ${provider.address}, and Terraform starts it by itself.`,
      "Name it in `required_providers` and run `terraform init`.",
    ].join("\n");
  }
  const offered = env.PLUGIN_PROTOCOL_VERSIONS?.split(",");
  if (offered && !offered.includes(String(PLUGIN_PROTOCOL))) {
    return `This provider speaks plugin protocol ${PLUGIN_PROTOCOL}, which needs Terraform 1.0 or newer; this one speaks ${offered.join(", ")}.`;
  }
  return undefined;
}
