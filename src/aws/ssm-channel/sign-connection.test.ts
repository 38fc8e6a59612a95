import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { signConnection } from "./sign-connection.ts";
import { hasBotocore } from "./testing.ts";

const AGENT_FOLDER = join(import.meta.dirname, "../../../test/aws");
const url =
  "wss://ssmmessages.eu-central-1.amazonaws.com/v1/data-channel/ecs-execute-command-0a1b?role=publish_subscribe&cell-number=AAEAAX%2B%2F%3D";
const sign = (token?: string) =>
  signConnection(url, {
    region: "eu-central-1",
    credentials: async () => ({
      accessKeyId: "test",
      secretAccessKey: "test",
      ...(token !== undefined && { sessionToken: token }),
    }),
  });

/** What botocore, which we do not use, says of a signature. */
function judge(headers: Record<string, string>): string {
  const { host, pathname, search } = new URL(url);
  const script =
    "import sys, json; sys.path.insert(0, sys.argv[1]); from exec_agent import signature_problem; print(signature_problem(sys.argv[2], json.loads(sys.argv[3])))";
  const asked = JSON.stringify({ host, ...headers });
  const { stdout, stderr } = spawnSync("python3", ["-c", script, AGENT_FOLDER, `${pathname}${search}`, asked], {
    encoding: "utf8",
  });
  return `${stdout}${stderr}`.trim();
}

describe.skipIf(!hasBotocore)("the signature of a connection", () => {
  it("is one that AWS's own Python library comes to, too, also with a session token", async () => {
    expect(judge(await sign())).toBe("None");
    const temporary = await sign("token/of=a+session");
    expect(temporary["x-amz-security-token"]).toBe("token/of=a+session");
    expect(judge(temporary)).toBe("None");
  });

  it("is found out when anything of it is another", async () => {
    const headers = await sign();
    expect(judge({ ...headers, "x-amz-date": "20200101T000000Z" })).toBe("wrong signature");
    expect(judge({})).toBe("not signed");
  });
});

it("leaves an address alone that is signed already", async () => {
  const signed = `${url}&X-Amz-Signature=0123`;
  const credentials = () => Promise.reject(new Error("nobody should ask"));
  expect(await signConnection(signed, { region: "eu-central-1", credentials })).toEqual({});
});
