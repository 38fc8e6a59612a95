import { X509Certificate } from "node:crypto";
import { access, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import grpc from "@grpc/grpc-js";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { until } from "../../shared/until.ts";
import { newReality, realityProvider } from "../testing/reality.ts";
import { newCertificate } from "./certificate.ts";
import { codecOf } from "./messages.ts";
import { type PluginProcess, servePlugin } from "./serve-plugin.ts";

const COOKIE = { TF_PLUGIN_MAGIC_COOKIE: "d602bf8f470bc67ca7faa0386276bbdd4330efaf76d1a219cb4d6991ca9872b2" };

describe("a provider as a plugin", () => {
  let tempDir: string;
  let out: string;
  let err: string;
  let exits: number[];
  let parent: number;
  beforeEach(async () => {
    tempDir = await mkdtemp(join(tmpdir(), "shipway-plugin-test-"));
    [out, err, exits, parent] = ["", "", [], 42];
  });
  afterEach(async () => {
    parent = 1;
    if (out !== "") await until("the plugin's end", () => exits.length > 0);
    await rm(tempDir, { recursive: true, force: true });
  });
  const serve = (env: PluginProcess["env"]) =>
    servePlugin(realityProvider(newReality()), {
      env,
      tempDir,
      writeOut: (text) => {
        out += text;
      },
      writeErr: (text) => {
        err += text;
      },
      parentPid: () => parent,
      exit: (code) => void exits.push(code),
    });

  it("tells a person who starts it what it is, and one whose Terraform is too old", async () => {
    await serve({});
    expect(err).toMatch(/^This is the Terraform provider terraform.test\/shipway\/reality, and Terraform starts it/);
    await serve({ ...COOKIE, PLUGIN_PROTOCOL_VERSIONS: "4,5" });
    expect(err).toContain("needs Terraform 1.0 or newer; this one speaks 4, 5");
    expect([out, exits]).toEqual(["", [1, 1]]);
  });

  it("says in one line where it is, answers only who holds the certificate that was offered, and ends when asked", async () => {
    const terraform = newCertificate();
    await serve({ ...COOKIE, PLUGIN_PROTOCOL_VERSIONS: "5,6", PLUGIN_CLIENT_CERT: terraform.pem });
    const [, core, protocol, path = "", certificate = ""] =
      /^(1)\|(6)\|unix\|(.*)\|grpc\|([A-Za-z0-9+/]+)\n$/.exec(out) ?? [];
    expect([core, protocol]).toEqual(["1", "6"]);
    const server = new X509Certificate(Buffer.from(certificate, "base64"));
    expect(server.subjectAltName).toBe("DNS:localhost");
    expect(server.verify(server.publicKey)).toBe(true);

    const roots = Buffer.from(server.toString());
    const known = grpc.credentials.createSsl(roots, Buffer.from(terraform.key), Buffer.from(terraform.pem));
    expect(await call(path, known, "tfplugin6.Provider", "StopProvider", "StopAnswer")).toEqual({ error: "" });
    const stranger = newCertificate();
    const unknown = grpc.credentials.createSsl(roots, Buffer.from(stranger.key), Buffer.from(stranger.pem));
    await expect(call(path, unknown, "tfplugin6.Provider", "StopProvider", "StopAnswer")).rejects.toThrow(
      "UNAVAILABLE",
    );
    await expect(
      call(path, grpc.credentials.createInsecure(), "tfplugin6.Provider", "StopProvider", "StopAnswer"),
    ).rejects.toThrow("UNAVAILABLE");

    expect(await call(path, known, "plugin.GRPCController", "Shutdown", "Empty")).toEqual({});
    await until("its end", () => exits.length > 0);
    expect(exits).toEqual([0]);
    await expect(access(path)).rejects.toThrow("ENOENT");
  });

  it("ends by itself when whoever started it is gone", async () => {
    await serve(COOKIE);
    expect(out).toMatch(/\|grpc\n$/);
    expect(exits).toEqual([]);
    parent = 1;
    await until("its end", () => exits.length > 0);
    expect(exits).toEqual([0]);
  });
});

function call(path: string, credentials: grpc.ChannelCredentials, service: string, name: string, answer: string) {
  // As go-plugin does: the certificate is for localhost, whatever the address.
  const client = new grpc.Client(`unix:${path}`, credentials, {
    "grpc.ssl_target_name_override": "localhost",
    "grpc.default_authority": "localhost",
  });
  const [asked, answered] = [codecOf("Empty"), codecOf(answer)];
  return new Promise<object>((resolve, reject) => {
    const deadline = { deadline: Date.now() + 5_000 };
    client.makeUnaryRequest(`/${service}/${name}`, asked.encode, answered.decode, {}, deadline, (error, value) => {
      client.close();
      if (error || !value) return reject(error ?? new Error("no answer"));
      resolve(value);
    });
  });
}
