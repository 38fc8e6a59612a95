/** The app that both sides deploy: one service, no pipeline, one line that changes. */
export const BASE_IMAGE = "node:20-bookworm-slim";
export const PORT = 3000;

export function sampleFiles(app, text) {
  return {
    "shipway.yml": `app: ${app}\nservices:\n  web:\n    build: {}\n    port: ${PORT}\n    health: { path: / }\nbake: 0s\n`,
    Dockerfile: `FROM ${BASE_IMAGE}\nWORKDIR /app\nCOPY . .\nCMD ["node", "server.js"]\n`,
    "server.js": [
      'const http = require("node:http");',
      `const text = ${JSON.stringify(text)};`,
      "const server = http.createServer((request, response) => response.end(text));",
      `server.listen(${PORT});`,
      'process.on("SIGTERM", () => server.close(() => process.exit(0)));',
      "",
    ].join("\n"),
  };
}
