import { createHash } from "node:crypto";
import { readdir, readFile } from "node:fs/promises";
import { gzipSync } from "node:zlib";

const TYPES = {
  css: "text/css; charset=utf-8",
  js: "text/javascript; charset=utf-8",
  svg: "image/svg+xml",
  txt: "text/plain; charset=utf-8",
  woff2: "font/woff2",
};

/**
 * @typedef {{ body: Buffer, gzip: Buffer | undefined, type: string, tag: string }} Asset
 */

/**
 * Reads every file of a directory into memory, with a tag of its content.
 * @param {URL} directory
 * @param {Record<string, string>} generated more files: name → text
 * @returns {Promise<Map<string, Asset>>} by path, such as `/assets/styles.css`
 */
export async function loadAssets(directory, generated = {}) {
  const files = (await readdir(directory, { recursive: true, withFileTypes: true })).filter((entry) => entry.isFile());
  const root = decodeURIComponent(directory.pathname);
  const loaded = await Promise.all(
    files.map(async (file) => {
      const path = `${file.path}/${file.name}`.replaceAll("//", "/");
      return /** @type {const} */ ([path.slice(root.length), await readFile(path)]);
    }),
  );
  const all = [
    ...loaded,
    ...Object.entries(generated).map(([name, text]) => /** @type {const} */ ([name, Buffer.from(text)])),
  ];
  return new Map(all.map(([name, body]) => [`/assets/${name}`, toAsset(name, body)]));
}

function toAsset(name, body) {
  const extension = name.slice(name.lastIndexOf(".") + 1);
  return {
    body,
    gzip: extension === "woff2" ? undefined : gzipSync(body),
    type: TYPES[extension] ?? "application/octet-stream",
    tag: createHash("sha256").update(body).digest("base64url").slice(0, 12),
  };
}
