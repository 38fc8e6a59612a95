import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { KEPT_BYTES } from "../send.ts";
import { type Receiver, startReceiver } from "../testing.ts";
import { httpSend } from "./http-send.ts";

let receiver: Receiver;
beforeEach(async () => {
  receiver = await startReceiver();
});
afterEach(() => receiver.close());

const never = new AbortController().signal;
const post = (url = receiver.url, signal = never, timeoutMs = 5_000) =>
  httpSend({ timeoutMs })({ url, headers: { "shipway-delivery": "n_1-7" }, body: '{"say":"größer"}' }, signal);

describe("httpSend", () => {
  it("posts the body with its headers and gives status and text of the answer", async () => {
    receiver.replies.push({ status: 202, text: "queued" });
    expect(await post()).toEqual({ status: 202, text: "queued" });
    expect(receiver.received[0]).toMatchObject({
      body: '{"say":"größer"}',
      headers: { "shipway-delivery": "n_1-7", "content-type": "application/json; charset=utf-8" },
    });
  });

  it("keeps the beginning of a long answer, and how long it shall wait", async () => {
    receiver.replies.push({ status: 503, text: "x".repeat(500_000), headers: { "retry-after": "7" } });
    const { text, ...rest } = await post();
    expect(rest).toEqual({ status: 503, retryAfterMs: 7_000 });
    expect(text).toHaveLength(KEPT_BYTES);
  });

  it("follows no redirect", async () => {
    receiver.replies.push({ status: 307, headers: { location: receiver.url } });
    expect(await post()).toMatchObject({ status: 307 });
    expect(receiver.received).toHaveLength(1);
  });

  it("says in words why there was no answer, and never the address", async () => {
    receiver.replies.push("cut", "hang");
    await expect(post()).rejects.toThrow("the connection was cut");
    await expect(post(receiver.url, never, 50)).rejects.toThrow("it did not answer in time");
    await receiver.close();
    const error: Error = await post().then(
      () => new Error("was sent"),
      (reason) => reason,
    );
    expect(error.message).toBe("the connection was refused");
    receiver = await startReceiver();
  });

  it("stops when Shipway does", async () => {
    receiver.replies.push("hang");
    const stopping = new AbortController();
    const sent = post(receiver.url, stopping.signal);
    stopping.abort();
    await expect(sent).rejects.toThrow("Shipway is stopping");
  });

  it("looks at the address that a name leads to when it connects", async () => {
    const { port } = new URL(receiver.url);
    const to = (...addresses: string[]) =>
      httpSend({ lookup: async () => addresses.map((address) => ({ address, family: 4 })) })(
        { url: `http://chat.example:${port}/`, headers: {}, body: "{}" },
        never,
      );
    await expect(to("169.254.169.254")).rejects.toThrow("169.254.169.254 is a link-local address");
    await expect(to("127.0.0.1", "169.254.169.254")).rejects.toThrow("link-local");
    await expect(to()).rejects.toThrow("chat.example has no address");
    expect(receiver.received).toHaveLength(0);
    expect(await to("127.0.0.1")).toMatchObject({ status: 200 });
  });

  it("connects to no link-local address, whatever was stored", async () => {
    await expect(post("http://169.254.169.254/latest")).rejects.toThrow("link-local");
    await expect(post("http://[fe80::1]/")).rejects.toThrow("link-local");
  });
});
