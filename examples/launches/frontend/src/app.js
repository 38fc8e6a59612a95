import { randomUUID } from "node:crypto";
import { gzipSync } from "node:zlib";
import { checkDraw } from "../public/draw-check.js";
import { BackendAway } from "./backend.js";
import { drawPage } from "./pages/draw.js";
import { homePage } from "./pages/home.js";
import { howPage } from "./pages/how.js";
import { launchPage } from "./pages/launch.js";
import { problemPage } from "./pages/problem.js";
import { findTicketPage, ticketPage } from "./pages/ticket.js";

/**
 * @typedef {{ backend: import("./backend.js").Backend, assets: Map<string, import("./assets.js").Asset>, theme: typeof import("../theme.js").theme,
 *   release: string, log: (event: string, fields: object) => void, now?: () => number }} Parts
 * @typedef {{ status?: number, page?: unknown, location?: string, type?: string, body?: string, headers?: Record<string, string> }} Reply
 */

const SECURITY = {
  "content-security-policy":
    "default-src 'none'; style-src 'self'; script-src 'self'; font-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
  "x-content-type-options": "nosniff",
  "referrer-policy": "same-origin",
  "cross-origin-opener-policy": "same-origin",
  "permissions-policy": "camera=(), microphone=(), geolocation=()",
};

const ROUTES = [
  ["GET", /^\/$/, home],
  ["GET", /^\/how$/, async ({ site }) => ({ page: howPage(site) })],
  ["GET", /^\/launches\/([a-z0-9-]{1,60})$/, showLaunch],
  ["POST", /^\/launches\/([a-z0-9-]{1,60})$/, postEntry],
  ["GET", /^\/launches\/([a-z0-9-]{1,60})\/draw$/, showDraw],
  ["GET", /^\/launches\/([a-z0-9-]{1,60})\/draw\.json$/, drawJson],
  ["GET", /^\/launches\/([a-z0-9-]{1,60})\/tickets\.(json|txt)$/, ticketList],
  ["GET", /^\/tickets$/, findTicket],
  ["GET", /^\/tickets\/([0-9A-Z-]{14})$/, showTicket],
];

/** An answer other than the page that was asked for. */
class Refused extends Error {
  constructor(status, headers = {}) {
    super(`refused with ${status}`);
    this.status = status;
    this.headers = headers;
  }
}

/**
 * The HTTP handler.
 * @param {Parts} parts
 */
export function createApp({ backend, assets, theme, release, log, now = Date.now }) {
  const asset = (name) => `/assets/${name}?v=${assets.get(`/assets/${name}`)?.tag ?? "none"}`;
  return async (request, response) => {
    const url = new URL(request.url ?? "/", "http://frontend");
    // The process serves; whether the backend does is its own health's business, and pages survive it being away.
    if (url.pathname === "/healthz")
      return send(request, response, { type: "application/json", body: JSON.stringify({ ok: true, release }) });
    const found = assets.get(url.pathname);
    if (found) return sendAsset(request, response, found, url.searchParams.get("v"));

    const startedAt = performance.now();
    const site = { theme, release, asset, now: now() };
    try {
      send(request, response, await route({ site, backend, request, url }));
    } catch (error) {
      const status = error instanceof Refused ? error.status : 503;
      if (!(error instanceof Refused))
        log("page-failed", { path: url.pathname, kind: error?.constructor?.name, message: error?.cause ?? error });
      if (response.headersSent) return response.destroy();
      send(request, response, {
        status,
        page: problemPage(site, status),
        headers: error instanceof Refused ? error.headers : { "retry-after": "5" },
      });
    }
    log("request", {
      method: request.method,
      path: url.pathname,
      status: response.statusCode,
      ms: (performance.now() - startedAt).toFixed(1),
    });
  };
}

async function route(context) {
  const { request, url } = context;
  const here = ROUTES.filter(([, pattern]) => pattern.test(url.pathname));
  if (here.length === 0) throw new Refused(404);
  const found = here.find(([method]) => method === (request.method === "HEAD" ? "GET" : request.method));
  if (!found) throw new Refused(405, { allow: here.map(([method]) => method).join(", ") });
  const [, pattern, handler] = found;
  return handler(context, ...pattern.exec(url.pathname).slice(1));
}

/** What the backend has at a path; `undefined` for 404 and 409. */
async function read(backend, path) {
  const answer = await backend.get(path);
  if (answer.status === 404 || answer.status === 409) return { body: undefined, stale: false };
  if (answer.status !== 200) throw new BackendAway(`The backend answered ${answer.status} to ${path}.`);
  return answer;
}

async function home({ site, backend }) {
  const { body, stale } = await read(backend, "/launches");
  return { page: homePage(site, { launches: body.launches, stale }) };
}

async function showLaunch({ site, backend, url }, slug) {
  const size = url.searchParams.get("size") ?? "";
  return launchReply({ site, backend }, slug, 200, { email: "", size, requestKey: randomUUID() });
}

async function launchReply({ site, backend }, slug, status, form, headers = {}) {
  const { body, stale } = await read(backend, `/launches/${slug}`);
  if (!body) throw new Refused(404);
  const draw = body.launch.state === "closed" ? (await read(backend, `/launches/${slug}/draw`)).body?.draw : undefined;
  return { status, headers, page: launchPage(site, { launch: body.launch, draw, form, stale }) };
}

async function postEntry(context, slug) {
  const { backend, request } = context;
  if (!isOwnForm(request)) throw new Refused(403);
  const fields = await readForm(request);
  const entry = {
    email: (fields.get("email") ?? "").trim(),
    size: fields.get("size") ?? "",
    requestKey: fields.get("requestKey") || randomUUID(),
  };
  const answer = await backend.enter(slug, entry, clientAddress(request));
  if (answer.status === 200 || answer.status === 201) return { location: `/tickets/${answer.body.ticket}?new=1` };
  if (answer.status === 404) throw new Refused(404);
  const headers = answer.retryAfter ? { "retry-after": answer.retryAfter } : {};
  return launchReply(
    context,
    slug,
    answer.status,
    { ...entry, requestKey: randomUUID(), problem: problemOf(answer) },
    headers,
  );
}

function problemOf({ body }) {
  switch (body.error) {
    case "invalid_email":
      return {
        field: "email",
        message: "That does not look like an e-mail address. It needs a form such as marta@example.com.",
      };
    case "invalid_size":
      return { field: "size", message: "Choose your size first." };
    case "already_entered":
      return { message: "This address is already in the draw. One entry per person; your ticket stands." };
    case "too_many":
      return { message: `${body.message} Your chance does not depend on speed.` };
    case "closed":
      return { message: "The doors closed just before your entry arrived, so it was not counted." };
    case "not_open_yet":
      return { message: "This launch is not open yet." };
    default:
      return { message: "That did not work. Please look over the form and try again." };
  }
}

async function showDraw({ site, backend, request }, slug) {
  const { launch, draw, tickets, stale } = await readDraw(backend, slug);
  const check = await checkDraw(draw, tickets);
  return { page: drawPage(site, { launch, draw, check, origin: originOf(request), stale }) };
}

async function drawJson({ backend }, slug) {
  return json((await readDraw(backend, slug)).draw);
}

async function ticketList({ backend }, slug, kind) {
  const { tickets } = await readDraw(backend, slug);
  return kind === "json" ? json(tickets) : { type: "text/plain; charset=utf-8", body: `${tickets.join("\n")}\n` };
}

async function readDraw(backend, slug) {
  const [launch, draw, tickets] = await Promise.all([
    read(backend, `/launches/${slug}`),
    read(backend, `/launches/${slug}/draw`),
    read(backend, `/launches/${slug}/tickets`),
  ]);
  if (!launch.body) throw new Refused(404);
  if (!draw.body?.draw.seed || !tickets.body) throw new Refused(409);
  return {
    launch: launch.body.launch,
    draw: draw.body.draw,
    tickets: tickets.body.tickets,
    stale: launch.stale || draw.stale || tickets.stale,
  };
}

async function findTicket({ site, backend, url }) {
  const typed = url.searchParams.get("ticket") ?? "";
  if (!typed) return { page: findTicketPage(site, {}) };
  const letters = typed.toUpperCase().replace(/[^0-9A-Z]/g, "");
  const ticket = letters.replace(/^(.{4})(.{4})(.{4})$/, "$1-$2-$3");
  const known = ticket.length === 14 && (await read(backend, `/tickets/${ticket}`)).body;
  return known
    ? { location: `/tickets/${ticket}` }
    : { status: 404, page: findTicketPage(site, { typed, missing: true }) };
}

async function showTicket({ site, backend, url }, number) {
  const { body, stale } = await read(backend, `/tickets/${number}`);
  if (!body) return { status: 404, page: findTicketPage(site, { typed: number, missing: true }) };
  const { launch } = (await read(backend, `/launches/${body.ticket.slug}`)).body;
  return { page: ticketPage(site, { ticket: body.ticket, launch, fresh: url.searchParams.has("new"), stale }) };
}

const json = (value) => ({ type: "application/json; charset=utf-8", body: JSON.stringify(value) });

/** Browsers say where a form was sent from. There is no session to ride on, but nobody should enter people from elsewhere. */
function isOwnForm({ headers }) {
  const site = headers["sec-fetch-site"];
  if (site !== undefined && site !== "same-origin" && site !== "none") return false;
  if (headers.origin === undefined) return true;
  try {
    return new URL(headers.origin).host === headers.host;
  } catch {
    return false;
  }
}

async function readForm(request, limit = 4_096) {
  const chunks = [];
  let size = 0;
  for await (const chunk of request) {
    size += chunk.length;
    if (size > limit) throw new Refused(413, { connection: "close" });
    chunks.push(chunk);
  }
  return new URLSearchParams(Buffer.concat(chunks).toString("utf8"));
}

/** The last entry of X-Forwarded-For is the one our own router wrote; those before it are what the visitor claims. */
function clientAddress({ headers, socket }) {
  return (
    String(headers["x-forwarded-for"] ?? "")
      .split(",")
      .at(-1)
      ?.trim() ||
    socket.remoteAddress ||
    "unknown"
  );
}

/** For the command on the page. A host that is no plain host name is not repeated. */
function originOf({ headers }) {
  const scheme = headers["x-forwarded-proto"] === "https" ? "https" : "http";
  return /^[\w.-]+(:\d+)?$/.test(headers.host ?? "") ? `${scheme}://${headers.host}` : "http://localhost";
}

/** @param {Reply} reply */
function send(
  request,
  response,
  { status = 200, page, location, type = "text/html; charset=utf-8", body, headers = {} },
) {
  const all = { ...SECURITY, "cache-control": "no-store", vary: "accept-encoding", ...headers };
  if (location) return response.writeHead(303, { ...all, location, "content-length": 0 }).end();
  write(request, response, status, Buffer.from(body ?? String(page)), { ...all, "content-type": type });
}

function write(request, response, status, plain, headers, zipped) {
  const zip = /\bgzip\b/.test(request.headers["accept-encoding"] ?? "") && plain.length > 1_000;
  const bytes = zip ? (zipped ?? gzipSync(plain, { level: 4 })) : plain;
  if (zip) headers["content-encoding"] = "gzip";
  response.writeHead(status, { ...headers, "content-length": bytes.length });
  response.end(request.method === "HEAD" ? undefined : bytes);
}

/** Kept for good under its own tag; under another tag (a page of the release before or after) it is asked for again. */
function sendAsset(request, response, { body, gzip, type, tag }, asked) {
  const etag = `"${tag}"`;
  const headers = {
    "content-type": type,
    "x-content-type-options": "nosniff",
    etag,
    vary: "accept-encoding",
    "cache-control":
      asked === tag
        ? "public, max-age=31536000, immutable"
        : type === "font/woff2"
          ? "public, max-age=86400"
          : "no-cache",
  };
  if (request.headers["if-none-match"] === etag) return response.writeHead(304, headers).end();
  if (gzip) return write(request, response, 200, body, headers, gzip);
  response.writeHead(200, { ...headers, "content-length": body.length });
  response.end(request.method === "HEAD" ? undefined : body);
}
