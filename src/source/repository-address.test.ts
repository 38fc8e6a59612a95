import { describe, expect, it } from "vitest";
import { parseRepositoryAddress } from "./repository-address.ts";

describe("the address of a repository", () => {
  it.each([
    ["shop-infra", { kind: "hosted", name: "shop-infra" }],
    ["https://git.example.com/team/infra.git", { kind: "connected", over: "http", host: "git.example.com" }],
    ["https://git.example.com:8443/infra", { kind: "connected", over: "http", host: "git.example.com:8443" }],
    ["http://127.0.0.1:7420/git/infra.git", { kind: "connected", over: "http", host: "127.0.0.1:7420" }],
    ["http://localhost/infra.git", { kind: "connected", over: "http" }],
    ["ssh://git@git.example.com:7999/team/infra.git", { kind: "connected", over: "ssh", host: "git.example.com" }],
    ["git@git.example.com:team/infra.git", { kind: "connected", over: "ssh", host: "git.example.com" }],
  ])("is %s", (text, address) => {
    expect(parseRepositoryAddress(text)).toMatchObject(address);
  });

  it.each([
    "",
    "-u",
    "--upload-pack=touch x",
    "ext::sh -c touch% x",
    "file:///etc",
    "/etc/repository",
    "../other.git",
    "Shop",
    "http://git.example.com/infra.git",
    "https://ada:secret@git.example.com/infra.git",
    "https://ada@git.example.com/infra.git",
    "https://git.example.com",
    "https://git.example.com/infra.git?x=1",
    "https://git.example.com/in fra.git",
    "https://git.example.com/infra.git\n--upload-pack=x",
    "ssh://-oProxyCommand=touch/x",
    "ssh://git@-oProxyCommand=touch/x",
    "-oProxyCommand=x@host:path",
    "git@-host:path",
    "git@host:-path",
    "git@host::path",
    "git://git.example.com/infra.git",
    "http::https://git.example.com/infra.git",
  ])("is not %j", (text) => {
    expect(parseRepositoryAddress(text)).toBeUndefined();
  });
});
