/** A small app for tests: starts in a tenth of a second and can be told how to misbehave. */
export const BASE_IMAGE = "node:20-bookworm-slim";

export const DOCKERFILE = `FROM ${BASE_IMAGE}\nWORKDIR /app\nCOPY . .\nCMD ["node", "server.js"]\n`;

/** Says its text and its release; `SIGTERM` lets requests end. */
export function server(text: string, port = 3000): string {
  return [
    'const http = require("node:http");',
    `const server = http.createServer((request, response) => response.end(${JSON.stringify(text)} + " " + process.env.SHIPWAY_RELEASE + "\\n"));`,
    `server.listen(${port});`,
    'process.on("SIGTERM", () => server.close(() => process.exit(0)));',
    "",
  ].join("\n");
}

export function spec(app: string, extra = ""): string {
  return `app: ${app}\nservices:\n  web:\n    build: {}\n    port: 3000\n    health: { path: /, interval: 500ms }\nbake: 500ms\n${extra}`;
}

export function files(app: string, text: string, extra = ""): Record<string, string> {
  return { "shipway.yml": spec(app, extra), Dockerfile: DOCKERFILE, "server.js": server(text) };
}
