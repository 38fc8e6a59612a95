/**
 * A small lint with nothing to install: every file parses, every relative import exists and exports what is asked of it,
 * nothing imported goes unused, what both services need alike is alike, and lockfiles name no registry.
 */
import { spawnSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import { fileURLToPath } from "node:url";

const ROOT = resolve(dirname(fileURLToPath(import.meta.url)), "..");
/** Files of which each service has its own copy, since each is built from its own folder. */
const TWINS = ["src/log.js", "src/serve.js"];

const problems = [];
const files = readdirSync(ROOT, { recursive: true, withFileTypes: true })
  .filter((entry) => entry.isFile() && entry.name.endsWith(".js") && !entry.path.includes("node_modules"))
  .map((entry) => join(entry.path, entry.name));

for (const file of files) {
  const source = readFileSync(file, "utf8");
  checkText(file, source);
  checkImports(file, source);
}
checkSyntax();
checkTwins();
checkLockfile("backend/package-lock.json");

for (const problem of problems) console.error(problem);
console.log(problems.length === 0 ? `${files.length} files, no problem` : `${problems.length} problems`);
process.exit(problems.length === 0 ? 0 : 1);

function report(file, message) {
  problems.push(`${relative(ROOT, file)}: ${message}`);
}

/** One process for all files: `node --check` takes only one each, and starting it is what costs. */
function checkSyntax() {
  const script = `
    import { readFileSync } from "node:fs";
    import { SourceTextModule } from "node:vm";
    for (const file of JSON.parse(process.argv[1]))
      try { new SourceTextModule(readFileSync(file, "utf8"), { identifier: file }); }
      catch (error) { console.log(file + ": " + error.message); }`;
  const { stdout, status, stderr } = spawnSync(
    process.execPath,
    ["--experimental-vm-modules", "--no-warnings", "--input-type=module", "-e", script, JSON.stringify(files)],
    { encoding: "utf8" },
  );
  if (status !== 0) problems.push(stderr.trim());
  for (const text of stdout.split("\n").filter(Boolean)) problems.push(text.replace(`${ROOT}/`, ""));
}

function checkText(file, source) {
  for (const [index, text] of source.split("\n").entries()) {
    if (/[ \t]+$/.test(text)) report(file, `line ${index + 1} ends with spaces`);
    if (/^\s*debugger\b|\btest\.only\(/.test(text)) report(file, `line ${index + 1} was for debugging`);
  }
}

function checkImports(file, source) {
  for (const [statement, names, from] of source.matchAll(/^import (?:\{([^}]+)\}|[\w*\s]+) from "([^"]+)";$/gm)) {
    for (const name of (names ?? "")
      .split(",")
      .map((part) => part.trim().split(/ as /))
      .filter(([first]) => first)) {
      const local = name.at(-1);
      if (source.replace(statement, "").search(new RegExp(`\\b${local}\\b`)) === -1)
        report(file, `${local} is imported and not used`);
      if (from.startsWith(".")) checkExport(file, from, name[0]);
    }
  }
}

function checkExport(file, from, name) {
  const target = resolve(dirname(file), from);
  if (!existsSync(target)) return report(file, `${from} does not exist`);
  if (!new RegExp(`export (async )?(function|const|class|let) ${name}\\b`).test(readFileSync(target, "utf8")))
    report(file, `${from} exports no ${name}`);
}

function checkTwins() {
  for (const twin of TWINS) {
    const [one, two] = ["backend", "frontend"].map((service) => join(ROOT, service, twin));
    if (readFileSync(one, "utf8") !== readFileSync(two, "utf8")) report(two, `differs from backend/${twin}`);
  }
}

function checkLockfile(path) {
  if (/"resolved":/.test(readFileSync(join(ROOT, path), "utf8")))
    report(join(ROOT, path), "names a registry; run npm with omit-lockfile-registry-resolved");
}
