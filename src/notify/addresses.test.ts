import { describe, expect, it } from "vitest";
import { isBlockedAddress, parseHookUrl, shortenUrl } from "./addresses.ts";

describe("parseHookUrl", () => {
  it.each([
    "ftp://example.com/x",
    "file:///etc/passwd",
    "example.com/hook",
    "",
    "javascript:alert(1)",
    `https://example.com/${"x".repeat(3_000)}`,
  ])("takes no %j", (text) => {
    expect(() => parseHookUrl(text)).toThrow(expect.objectContaining({ code: "REQUEST_INVALID" }));
  });

  // Every way in which a URL can write 169.254.169.254.
  it.each([
    "http://169.254.169.254/latest/meta-data/",
    "http://0xa9fea9fe/",
    "http://2852039166/",
    "http://0251.0376.0251.0376/",
    "http://[::ffff:169.254.169.254]/",
    "http://[fe80::1]/",
    "http://[fd00:ec2::254]/",
  ])("sends nothing to the machine's metadata at %s", (text) => {
    expect(() => parseHookUrl(text)).toThrow(/link-local/);
  });

  it("takes hosts inside the own network, and does not repeat a URL that it refuses", () => {
    expect(parseHookUrl("http://10.0.0.7:9000/hook").href).toBe("http://10.0.0.7:9000/hook");
    expect(parseHookUrl("http://localhost/hook").href).toBe("http://localhost/hook");
    expect(() => parseHookUrl("htp://chat/T0KEN")).toThrow(expect.not.objectContaining({ message: /T0KEN/ }));
  });
});

it("takes names for no addresses: they are looked at when they are resolved", () => {
  expect(isBlockedAddress("metadata.google.internal")).toBe(false);
});

it("shows of a URL neither path, query nor account", () => {
  expect(shortenUrl(new URL("https://hooks.slack.com/services/T0/B0/abc"))).toBe("https://hooks.slack.com/…");
  expect(shortenUrl(new URL("https://ada:pw@ci.example.com/?token=x"))).toBe("https://ci.example.com/…");
  expect(shortenUrl(new URL("http://10.0.0.7:9000/"))).toBe("http://10.0.0.7:9000/");
});
