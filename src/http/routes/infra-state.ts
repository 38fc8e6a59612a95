import { createHash } from "node:crypto";
import type { FastifyReply, FastifyRequest } from "fastify";
import { z } from "zod";
import { isApplying, type StateLock } from "../../infra/infra-run.ts";
import { findRunByCredential } from "../../infra/run-credential.ts";
import type { InfraRun } from "../../infra/runs.ts";
import { fail } from "../../shared/errors.ts";
import { Name } from "../../source/name.ts";
import type { Platform } from "../platform.ts";
import type { TypedServer } from "../server.ts";

const LARGEST_STATE_BYTES = 128 * 1024 * 1024;

/** As Terraform sends it (backend/remote-state/http). */
const LockInfo = z.object({
  ID: z.string().min(1),
  Operation: z.string().default(""),
  Who: z.string().default(""),
  Created: z.string().default(""),
});

/**
 * Terraform's "http" backend. Nobody's token opens it: a run logs in with its own id and a password that ends with it. Lock and unlock are addresses of
 * their own, so that they are ordinary POSTs (TF_HTTP_LOCK_METHOD).
 */
export function infraStateRoutes(server: TypedServer, platform: Platform): void {
  const { states } = platform.infra;
  // A state is kept byte by byte as Terraform wrote it.
  server.removeAllContentTypeParsers();
  server.addContentTypeParser("*", { parseAs: "string" }, (_request, body, done) => done(null, body));
  const params = z.object({ app: z.string(), environment: Name });
  const config = { role: "anyone" as const };
  const path = "/api/apps/:app/environments/:environment/infra/state";
  // Terraform's protocol and not ours: it is no part of the API that others use.
  const schema = { hide: true, params };

  server.get(path, { config, schema }, async (request, reply) => {
    const run = await runOf(platform, request);
    const latest = await states.latest(run);
    if (latest === undefined) return reply.status(204).send();
    return reply.type("application/json").header("content-md5", md5(latest.text)).send(latest.text);
  });

  server.post(
    path,
    {
      config,
      bodyLimit: LARGEST_STATE_BYTES,
      schema: { ...schema, querystring: z.object({ ID: z.string().default("") }) },
    },
    async (request, reply) => {
      const run = await applyOf(platform, request);
      // A plan runs code, too, and before its approval that of anybody: only an apply that has begun has something to save.
      if (run.apply_started_at === null) {
        throw fail("INFRA_STATE_REFUSED", {
          message: `Run ${run.id} still plans: it has nothing to write into the state.`,
          hint: "Only Terraform itself writes the state, in an apply.",
        });
      }
      const text = bodyOf(request);
      await states.write(run, request.query.ID, {
        text,
        runId: run.id,
        actor: run.approved_by ?? run.actor,
        reason: "written by a run",
      });
      return reply.status(200).send();
    },
  );

  server.post(`${path}/lock`, { config, schema }, async (request, reply) => {
    const run = await applyOf(platform, request);
    const info = parseLock(bodyOf(request));
    const held = await states.lock(run, {
      id: info.ID,
      operation: info.Operation,
      who: info.Who,
      created: info.Created,
      runId: run.id,
      actor: run.approved_by ?? run.actor,
    });
    return held === undefined ? reply.status(200).send() : refuse(reply, held);
  });

  server.post(`${path}/unlock`, { config, schema }, async (request, reply) => {
    const run = await applyOf(platform, request);
    const body = bodyOf(request);
    // Without a body it is a force-unlock, which names no lock: it would take away anybody's.
    if (body === "") throw forceUnlock();
    const held = await states.unlock(run, parseLock(body).ID);
    return held === undefined ? reply.status(200).send() : refuse(reply, held);
  });
}

const md5 = (text: string) => createHash("md5").update(text).digest("base64");

function bodyOf(request: FastifyRequest): string {
  const body = typeof request.body === "string" ? request.body : "";
  const sum = request.headers["content-md5"];
  if (typeof sum !== "string" || sum === md5(body)) return body;
  throw fail("REQUEST_INVALID", {
    message: "The body is not what its Content-MD5 says: it was damaged on the way.",
    hint: "Look at what stands between Terraform and Shipway, then try again.",
  });
}

/** 423 with the holder is what Terraform waits on. */
function refuse(reply: FastifyReply, held: StateLock): FastifyReply {
  return reply.status(423).send({
    ID: held.id,
    Operation: held.operation,
    Info: `run ${held.runId}`,
    Who: held.who,
    Version: "",
    Created: held.created,
    Path: "",
  });
}

function parseLock(body: string): z.infer<typeof LockInfo> {
  let input: unknown;
  try {
    input = JSON.parse(body);
  } catch {
    input = undefined;
  }
  const parsed = LockInfo.safeParse(input);
  if (parsed.success) return parsed.data;
  throw fail("REQUEST_INVALID", {
    message: "This is no lock as Terraform's http backend sends it.",
    hint: "Only runs of Shipway use this address.",
  });
}

/** The run that is asking. @throws TOKEN_INVALID */
async function runOf(platform: Platform, request: FastifyRequest): Promise<InfraRun> {
  const { app, environment } = request.params as { app: string; environment: string };
  const [, encoded = ""] = /^Basic +(\S+) *$/i.exec(request.headers.authorization ?? "") ?? [];
  const [id = "", password = ""] = Buffer.from(encoded, "base64").toString("utf8").split(":");
  const run = password === "" ? undefined : await findRunByCredential(platform.store.db, id, password);
  if (run?.app === app && run.environment === environment) return run;
  throw fail("TOKEN_INVALID", {
    message: "Only a run that is at work reads and writes this state, with its own password.",
    hint: "Use `shipway infra state` instead.",
  });
}

/** Plans and drift checks only read. */
async function applyOf(platform: Platform, request: FastifyRequest): Promise<InfraRun> {
  const run = await runOf(platform, request);
  if (isApplying(run.kind)) return run;
  throw fail("FORBIDDEN", {
    message: `Run ${run.id} is a ${run.kind}: it may only read the state.`,
    hint: "Use an apply.",
  });
}

function forceUnlock() {
  return fail("FORBIDDEN", {
    message: "A run may not force a lock open.",
    hint: "An operator can, by its id and on the record: `shipway infra unlock ID`.",
  });
}
