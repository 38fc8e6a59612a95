import { createApp } from "./src/app.js";
import { loadAssets } from "./src/assets.js";
import { connectBackend } from "./src/backend.js";
import { log } from "./src/log.js";
import { serve, stopOnSignal } from "./src/serve.js";
import { themeCss } from "./src/theme-css.js";
import { theme } from "./theme.js";

const { PORT = "3000", BACKEND_URL = "http://backend", EDGE_KEY, SHIPWAY_RELEASE = "local" } = process.env;

const assets = await loadAssets(new URL("public/", import.meta.url), { "theme.css": themeCss(theme) });
const backend = connectBackend({ url: BACKEND_URL, edgeKey: EDGE_KEY });
const server = await serve(createApp({ backend, assets, theme, release: SHIPWAY_RELEASE, log }), Number(PORT));
log("listening", { port: server.port, backend: BACKEND_URL, release: SHIPWAY_RELEASE });

stopOnSignal(async (signal) => {
  log("stopping", { signal });
  await server.stop();
  log("stopped");
});
