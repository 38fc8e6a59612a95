import { describe, expect, it } from "vitest";
import { ShipwayError } from "../../shared/errors.ts";
import type { ImagePlan } from "../builder.ts";
import { judgeBuildEnd } from "./build-failure.ts";
import type { FailedStep } from "./build-progress.ts";

const PLAN: ImagePlan = {
  app: "shop",
  service: "web",
  name: "shipway/shop/web:1",
  repositoryDir: "/nowhere",
  commit: "0".repeat(40),
  context: ".",
  dockerfile: "Dockerfile",
  args: {},
};
const DOCKERFILE = "FROM node:20\nCOPY dist /app\nRUN npm ci\n";

function judge(error: string, rest: { step?: FailedStep; dockerfile?: string } = {}) {
  const { step, dockerfile = DOCKERFILE } = rest;
  return judgeBuildEnd({ plan: PLAN, error, step, dockerfile });
}

/** The engine's own words, recorded from Docker Engine 20.10 and, marked, from BuildKit's later releases. */
describe("judgeBuildEnd", () => {
  it.each([
    {
      name: "a command that fails",
      error: "executor failed running [/bin/sh -c npm ci]: exit code: 3",
      step: { name: "[3/3] RUN npm ci", error: "", lastLines: ["npm ERR!"] },
      message: "Dockerfile:3: RUN npm ci ended with exit code 3",
      lastLines: ["npm ERR!"],
    },
    {
      name: "a command that fails (later BuildKit)",
      error: 'failed to solve: process "/bin/sh -c npm ci" did not complete successfully: exit code: 1',
      step: { name: "[3/3] RUN npm ci", error: "", lastLines: ["npm ERR!"] },
      message: "Dockerfile:3: RUN npm ci ended with exit code 1",
      lastLines: ["npm ERR!"],
    },
    {
      name: "a command that is killed",
      error: "executor failed running [/bin/sh -c npm ci]: exit code: 137",
      step: { name: "[3/3] RUN npm ci", error: "", lastLines: ["x"] },
      message: "Dockerfile:3: RUN npm ci ended with exit code 137 (killed, most likely out of memory)",
      lastLines: ["x"],
    },
    {
      name: "a command that could not reach a registry of packages",
      error: "executor failed running [/bin/sh -c npm ci]: exit code: 1",
      step: { name: "[3/3] RUN npm ci", error: "", lastLines: ["dial tcp: no such host"] },
      message: "Dockerfile:3: RUN npm ci ended with exit code 1",
      lastLines: ["dial tcp: no such host"],
    },
    {
      name: "a file that is not in the context",
      error: 'failed to compute cache key: "/dist" not found: not found',
      message: 'Dockerfile:2: "dist" is not in the build context . (not committed, or left out by .dockerignore)',
      lastLines: ['failed to compute cache key: "/dist" not found: not found'],
    },
    {
      name: "a file that is not in the context (later BuildKit)",
      error:
        'failed to solve: failed to compute cache key: failed to calculate checksum of ref x::y: "/dist": not found',
      message: 'Dockerfile:2: "dist" is not in the build context . (not committed, or left out by .dockerignore)',
      lastLines: [expect.any(String)],
    },
    {
      name: "a word that is no instruction",
      error:
        "failed to solve with frontend dockerfile.v0: failed to create LLB definition: dockerfile parse error line 3: unknown instruction: RNU",
      message: "Dockerfile:3: unknown instruction: RNU",
      lastLines: [expect.any(String)],
    },
    {
      name: "an empty file",
      error:
        "failed to solve with frontend dockerfile.v0: failed to create LLB definition: the Dockerfile cannot be empty",
      message: "Dockerfile: the Dockerfile cannot be empty",
      lastLines: [expect.any(String)],
    },
    {
      name: "a base image that the registry does not have",
      error:
        "failed to solve with frontend dockerfile.v0: failed to create LLB definition: pull access denied, repository does not exist or may require authorization: server message: insufficient_scope: authorization failed",
      message:
        "Dockerfile: the registry does not have an image it names, or wants a login for it (pull access denied, repository does not exist or may require authorization: server message: insufficient_scope: authorization failed)",
      lastLines: [expect.any(String)],
    },
    {
      name: "a base image whose tag does not exist",
      error:
        "failed to solve with frontend dockerfile.v0: failed to create LLB definition: docker.io/library/node:20: not found",
      message:
        "Dockerfile:1: the registry does not have node:20, or wants a login for it (docker.io/library/node:20: not found)",
      lastLines: [expect.any(String)],
    },
    {
      name: "a stage that does not exist",
      error:
        "failed to solve with frontend dockerfile.v0: failed to create LLB definition: target stage prod could not be found",
      message: "Dockerfile: target stage prod could not be found",
      lastLines: [expect.any(String)],
    },
  ])("makes a result of $name", ({ error, step, message, lastLines }) => {
    const verdict = judge(error, step ? { step } : {});
    expect(verdict).not.toBeInstanceOf(ShipwayError);
    expect(verdict).toMatchObject({ service: "web", name: PLAN.name, message, lastLines });
  });

  it.each([
    {
      name: "a registry that is not there",
      error:
        'failed to solve with frontend dockerfile.v0: failed to create LLB definition: failed to do request: Head "https://registry.example/v2/library/node/manifests/20": dial tcp: lookup registry.example on 10.0.0.1:53: no such host',
      code: "IMAGE_UNAVAILABLE",
      message:
        /^Dockerfile:1 needs node:20, which is not on this machine, and its registry does not answer: Head .*no such host\.$/,
    },
    {
      name: "a registry that allows no more pulls",
      error:
        "failed to solve with frontend dockerfile.v0: failed to create LLB definition: unexpected status code [manifests 20]: 429 Too Many Requests",
      code: "IMAGE_UNAVAILABLE",
      message: /429 Too Many Requests/,
    },
    {
      name: "a disk that is full",
      error: "failed to copy files: copy file range failed: no space left on device",
      code: "DISK_FULL",
      message: /^Building web stopped: .*no space left on device\.$/,
    },
  ])("makes an error of $name", ({ error, code, message }) => {
    expect(judge(error)).toMatchObject({ code, message: expect.stringMatching(message), hint: expect.any(String) });
  });

  it("says what a syntax line asks for", () => {
    const error =
      'failed to solve with frontend dockerfile.v0: failed to solve with frontend gateway.v0: failed to do request: Head "https://registry.example/v2/docker/dockerfile/manifests/1": no such host';
    expect(judge(error, { dockerfile: `# syntax=docker/dockerfile:1\n${DOCKERFILE}` })).toMatchObject({
      code: "IMAGE_UNAVAILABLE",
      message: expect.stringContaining("asks for the Dockerfile frontend docker/dockerfile:1"),
      hint: expect.stringContaining("Remove the `# syntax=` line"),
    });
  });
});
