import { formatDurationMs } from "../../../../shared/duration.ts";
import type { RouterBackend, RouterServer, ServerStatus } from "../router.ts";
import type { StatRow } from "./live-router.ts";
import { haproxyName } from "./render-config.ts";

/** What the current worker tells (`stat`), and what each worker tells that a reload replaced and that still serves. */
export type RouterStats = { stat: StatRow[]; oldWorkers: StatRow[][] };

/**
 * One server's status. Where a server is proving, only the checks of the proving back end count; a server that HAProxy
 * takes for healthy because it has just started is `starting` until a check has passed `healthy` times in a row. A server that
 * gets requests although it fails its checks, because all do, is `down` all the same.
 */
export function toServerStatus(backend: RouterBackend, server: RouterServer, stats: RouterStats): ServerStatus {
  const serving = findRow(stats.stat, backend.name, server.name);
  const open = findRow(stats.stat, haproxyName(backend.name, "open"), server.name);
  const proving = findRow(stats.stat, haproxyName(backend.name, "proving"), server.name);
  const row = server.state === "drain" && proving ? proving : serving;
  return {
    backend: backend.name,
    name: server.name,
    address: row?.addr || `${server.address}:${server.port}`,
    operational: operationalOf(row),
    admin: adminOf(row, server),
    lastCheck: describeCheck(row, backend),
    lastCheckMs: number(row?.check_duration),
    inFlight: requestsIn(serving) + requestsIn(open) + inFlightOfOldWorkers(backend, server, stats.oldWorkers),
    totalRequests: number(serving?.stot) + number(open?.stot),
  };
}

function findRow(rows: StatRow[], backend: string, server: string): StatRow | undefined {
  return rows.find(({ pxname, svname }) => pxname === backend && svname === server);
}

const requestsIn = (row: StatRow | undefined) => number(row?.scur) + number(row?.qcur);

/**
 * Requests that a replaced worker still has for this server. Its idle clients count as one: the next request of such a
 * client still goes where that worker was told to send it, until it is asked to leave (`timeout http-keep-alive` at most).
 */
function inFlightOfOldWorkers(backend: RouterBackend, server: RouterServer, workers: StatRow[][]): number {
  let inFlight = 0;
  for (const rows of workers) {
    const row = findRow(rows, backend.name, server.name);
    if (row === undefined) continue;
    const clients = sum(rows.filter(({ svname }) => svname === "FRONTEND"));
    const requests = sum(rows.filter(({ svname }) => svname !== "FRONTEND" && svname !== "BACKEND"));
    const mayGetMore = !/^(MAINT|DRAIN)/.test(row.status ?? "") && clients > requests;
    inFlight +=
      requestsIn(row) +
      requestsIn(findRow(rows, haproxyName(backend.name, "open"), server.name)) +
      (mayGetMore ? 1 : 0);
  }
  return inFlight;
}

const sum = (rows: StatRow[]) => rows.reduce((total, row) => total + number(row.scur), 0);

function operationalOf(row: StatRow | undefined): ServerStatus["operational"] {
  if (row === undefined) return "starting";
  const { status = "", check_status: check = "" } = row;
  if (status.startsWith("MAINT")) return "maint";
  if (status.startsWith("UP") || status.startsWith("DRAIN") || status.startsWith("NOLB")) {
    return check.endsWith("INI") && status.startsWith("DRAIN") ? "starting" : "up";
  }
  // `* L7OK` is a check under way, with the result of the one before: passed, but not yet often enough.
  return /(?:INI|OK)$/.test(check) || check === "" ? "starting" : "down";
}

function adminOf(row: StatRow | undefined, server: RouterServer): ServerStatus["admin"] {
  if (row === undefined) return server.state;
  if (row.status?.startsWith("MAINT")) return "maint";
  // A server in drain that is down reads DOWN; only what was asked for tells it from one in service.
  return server.state === "drain" ? "drain" : row.status?.startsWith("DRAIN") ? "drain" : "ready";
}

/** Nothing was found out yet. */
const NOT_CHECKED = "";

/** HAProxy's check codes (management guide, `check_status`) in words. */
function describeCheck(row: StatRow | undefined, backend: RouterBackend): string {
  const code = row?.check_status?.replace(/^\* /, "") ?? "";
  const said = row?.last_chk?.replace(/ at (?:initial connection step|step \d+) of .*$/, "").trim() ?? "";
  switch (code) {
    case "":
    case "INI":
    case "UNK":
      return NOT_CHECKED;
    case "L4OK":
      return "port accepts connections";
    case "L7OK":
    case "L7OKC":
    case "L7STS":
      // Between two checks the code of the last one may be gone already.
      if (row?.check_code === "0") return NOT_CHECKED;
      return row?.check_code ? `HTTP ${row.check_code}` : "answered";
    case "L4TOUT":
    case "L6TOUT":
    case "L7TOUT":
      return `timed out after ${formatDurationMs(backend.timing.timeout)}`;
    case "L4CON":
      return said === "" ? "no connection" : said.charAt(0).toLowerCase() + said.slice(1);
    case "L7RSP":
      return `no valid HTTP answer${said === "" ? "" : `: ${said}`}`;
    default:
      return said === "" ? code : `${code}: ${said}`;
  }
}

const number = (text: string | undefined) => (text === undefined || text === "" ? 0 : Number(text));
