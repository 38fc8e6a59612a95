import { timingSafeEqual } from "node:crypto";
import { closeLaunch } from "./closing.js";
import { isEmail } from "./email.js";
import { enter } from "./entries.js";
import { HttpError, readJson, sendJson } from "./http.js";
import { findDraw, findLaunch, findTicket, findTickets, listLaunches } from "./launches.js";
import { isTicket } from "./ticket.js";

/**
 * @typedef {{ database: import("./database.js").Database, limiter: import("./rate-limit.js").RateLimiter, isReady: () => boolean,
 *   adminToken?: string, edgeKey?: string, release: string, log: typeof import("./log.js").log }} Parts
 */

/** Every route: method, path pattern, handler. Patterns are anchored; groups become the handler's `params`. */
const ROUTES = [
  ["GET", /^\/healthz$/, health],
  ["GET", /^\/launches$/, async ({ database }) => ({ launches: await listLaunches(database) })],
  ["GET", /^\/launches\/([a-z0-9-]{1,60})$/, showLaunch],
  ["POST", /^\/launches\/([a-z0-9-]{1,60})\/entries$/, postEntry],
  ["GET", /^\/launches\/([a-z0-9-]{1,60})\/draw$/, showDraw],
  ["GET", /^\/launches\/([a-z0-9-]{1,60})\/tickets$/, showTickets],
  ["POST", /^\/launches\/([a-z0-9-]{1,60})\/close$/, postClose],
  ["GET", /^\/tickets\/([0-9A-Z-]{14})$/, showTicket],
];

/**
 * The HTTP handler.
 * @param {Parts} parts
 */
export function createApp(parts) {
  return async (request, response) => {
    const startedAt = performance.now();
    const path = new URL(request.url, "http://backend").pathname;
    try {
      const { status = 200, ...body } = await route(parts, request, path);
      sendJson(response, status, body);
    } catch (error) {
      sendError(parts, response, path, error);
    }
    if (path !== "/healthz")
      parts.log("request", {
        method: request.method,
        path,
        status: response.statusCode,
        ms: (performance.now() - startedAt).toFixed(1),
      });
  };
}

async function route(parts, request, path) {
  const here = ROUTES.filter(([, pattern]) => pattern.test(path));
  if (here.length === 0) throw new HttpError(404, "not_found", "There is nothing at this address.");
  const found = here.find(([method]) => method === (request.method === "HEAD" ? "GET" : request.method));
  if (!found)
    throw new HttpError(405, "method_not_allowed", "This address takes another method.", {
      allow: here.map(([method]) => method).join(", "),
    });
  const [, pattern, handler] = found;
  return handler(parts, request, ...pattern.exec(path).slice(1));
}

function sendError({ log }, response, path, error) {
  if (response.headersSent) return response.destroy();
  if (error instanceof HttpError)
    return sendJson(response, error.status, { error: error.code, message: error.message }, error.headers);
  log("error", { path, code: error?.code ?? error?.name, message: error });
  sendJson(
    response,
    503,
    { error: "unavailable", message: "The launches are briefly unavailable. Try again in a moment." },
    { "retry-after": "2" },
  );
}

/**
 * Ready once the database answered after the start. Later it stays 200: a database that is slow for a moment must not
 * make every copy of this service look dead at once, and restarting them would not help it.
 */
function health({ isReady, release }) {
  if (!isReady()) throw new HttpError(503, "starting", "The database has not answered yet.");
  return { status: 200, ok: true, release };
}

async function showLaunch({ database }, _request, slug) {
  return { launch: (await findLaunch(database, slug)) ?? notFound() };
}

async function showDraw({ database }, _request, slug) {
  return { draw: (await findDraw(database, slug)) ?? notFound() };
}

async function showTickets({ database }, _request, slug) {
  const tickets = await findTickets(database, slug);
  if (!tickets) throw new HttpError(409, "not_drawn", "The tickets are published with the draw.");
  return { tickets };
}

async function showTicket({ database }, _request, ticket) {
  const found = isTicket(ticket) ? await findTicket(database, ticket) : undefined;
  if (!found) throw new HttpError(404, "no_such_ticket", "There is no such ticket.");
  return { ticket: found };
}

async function postEntry(parts, request, slug) {
  const { database, limiter } = parts;
  const verdict = await limiter.take(`${slug}:${clientAddress(parts, request)}`);
  if (!verdict.allowed)
    throw new HttpError(429, "too_many", `Too many attempts. Try again in ${verdict.retryAfterSeconds} s.`, {
      "retry-after": String(verdict.retryAfterSeconds),
    });

  const { email, size, requestKey } = await readJson(request);
  const launch = (await findLaunch(database, slug)) ?? notFound();
  if (typeof email !== "string" || !isEmail(email.trim()))
    throw new HttpError(400, "invalid_email", "Enter an e-mail address such as marta@example.com.");
  if (!launch.sizes.includes(size))
    throw new HttpError(400, "invalid_size", `Choose one of the sizes ${launch.sizes.join(", ")}.`);
  if (requestKey !== undefined && !/^[\w-]{8,64}$/.test(requestKey))
    throw new HttpError(400, "invalid_request_key", "`requestKey` is 8 to 64 letters, digits, dashes or underscores.");

  const result = await enter(database, { slug, email, size, requestKey: requestKey ?? crypto.randomUUID() });
  switch (result.status) {
    case "entered":
      return { status: result.repeated ? 200 : 201, ticket: result.ticket };
    case "already-entered":
      // Without the ticket: whoever types somebody else's address learns nothing that is theirs.
      throw new HttpError(409, "already_entered", "This address has already entered this launch.");
    case "not-open":
      throw new HttpError(
        409,
        launch.state === "upcoming" ? "not_open_yet" : "closed",
        "This launch takes no entries now.",
      );
  }
}

async function postClose({ database, adminToken, log }, request, slug) {
  if (!adminToken || !sameText(request.headers.authorization ?? "", `Bearer ${adminToken}`))
    throw new HttpError(403, "forbidden", "Closing a launch by hand needs the admin token.");
  if (!(await closeLaunch(database, slug))) throw new HttpError(409, "not_open", "This launch is not open.");
  log("launch-closed-by-hand", { launch: slug });
  return { status: 202, closed: slug };
}

/**
 * The visitor's address. The frontend tells it in `x-client-address`; with EDGE_KEY set it must prove that it is the
 * frontend. Otherwise it is what the router, the last proxy before us, saw.
 */
function clientAddress({ edgeKey }, request) {
  const told = request.headers["x-client-address"];
  if (told && (!edgeKey || sameText(request.headers["x-edge-key"] ?? "", edgeKey))) return String(told).slice(0, 64);
  return (request.headers["x-forwarded-for"] ?? "").split(",").at(-1)?.trim() || request.socket.remoteAddress;
}

function sameText(a, b) {
  const [left, right] = [Buffer.from(String(a)), Buffer.from(String(b))];
  return left.length === right.length && timingSafeEqual(left, right);
}

function notFound() {
  throw new HttpError(404, "no_such_launch", "There is no such launch.");
}
