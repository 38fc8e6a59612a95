/** One server as the running router knows it, in a serving or a proving back end. */
export type LiveServer = {
  backend: string;
  name: string;
  address: string;
  port: number;
  admin: "ready" | "drain" | "maint";
  /** By its checks; a server nobody has checked yet is up. */
  up: boolean;
};

/** What the running router runs. */
export type LiveRouter = { structure: string; pid: number; servers: LiveServer[] };

// Bits of srv_admin_state (HAProxy 2.6 management guide, "show servers state"): forced, inherited, by DNS, by host name.
const MAINT = 0x01 | 0x02 | 0x20 | 0x40;
const DRAIN = 0x08 | 0x10;

/** Parses the answer to `show info;show servers state`. */
export function parseLiveRouter(answer: string): LiveRouter {
  const lines = answer.split("\n");
  const field = (key: string) => lines.find((line) => line.startsWith(`${key}: `))?.slice(key.length + 2) ?? "";
  return { structure: field("description"), pid: Number(field("Pid")), servers: parseServers(lines) };
}

function parseServers(lines: string[]): LiveServer[] {
  const header = lines.find((line) => line.startsWith("# be_id "));
  if (header === undefined) return [];
  const names = header.slice(2).split(" ");
  return lines
    .slice(lines.indexOf(header) + 1)
    .map((line) => line.split(" "))
    .filter((fields) => fields.length >= names.length)
    .map((fields) => {
      const get = (name: string) => fields[names.indexOf(name)] ?? "";
      return {
        backend: get("be_name"),
        name: get("srv_name"),
        address: get("srv_addr"),
        port: Number(get("srv_port")),
        admin: adminState(Number(get("srv_admin_state"))),
        // 0 is "stopped"; starting and stopping servers are in use.
        up: Number(get("srv_op_state")) !== 0,
      };
    });
}

function adminState(bits: number): LiveServer["admin"] {
  if (bits & MAINT) return "maint";
  return bits & DRAIN ? "drain" : "ready";
}

/** One row of `show stat`, by column name. */
export type StatRow = Record<string, string>;

export function parseStat(answer: string): StatRow[] {
  const [header = "", ...lines] = answer
    .split("\n")
    .slice(answer.split("\n").findIndex((l) => l.startsWith("# pxname")));
  const names = header.slice(2).split(",");
  return lines
    .filter((line) => line.includes(","))
    .map(splitCsv)
    .map((fields) => Object.fromEntries(names.map((name, index) => [name, fields[index] ?? ""])));
}

/** RFC 4180, one line: what an application answered to a check may hold commas and quotes. */
function splitCsv(line: string): string[] {
  return [...line.matchAll(/(?:^|,)(?:"((?:[^"]|"")*)"|([^,]*))/g)].map(
    ([, quoted, plain]) => quoted?.replaceAll('""', '"') ?? plain ?? "",
  );
}

/** Processes by `show proc` of the master: the workers that a reload replaced and that still serve, and failed reloads in a row. */
export type Processes = { workers: number[]; oldWorkers: number[]; failedReloads: number };

export function parseProcesses(answer: string): Processes {
  const processes: Processes = { workers: [], oldWorkers: [], failedReloads: 0 };
  let section: "workers" | "oldWorkers" | undefined;
  for (const line of answer.split("\n")) {
    if (line.startsWith("#")) section = SECTIONS[line.trim()];
    const pid = Number(/^(\d+)\s+worker\b/.exec(line)?.[1]);
    if (section !== undefined && pid > 0) processes[section].push(pid);
    const failed = /\bmaster\b.*\[failed: (\d+)\]/.exec(line)?.[1];
    if (failed !== undefined) processes.failedReloads = Number(failed);
  }
  return processes;
}

const SECTIONS: Record<string, "workers" | "oldWorkers" | undefined> = {
  "# workers": "workers",
  "# old workers": "oldWorkers",
};
