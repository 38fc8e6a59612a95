import { createApp } from "./src/app.js";
import { readConfig } from "./src/config.js";
import { awaitDatabase, openDatabase } from "./src/database.js";
import { log } from "./src/log.js";
import { redisRateLimiter } from "./src/rate-limit.js";
import { serve, stopOnSignal } from "./src/serve.js";

const config = readConfig(process.env);
const database = openDatabase(config.database);
const limiter = redisRateLimiter(config.cacheUrl, {
  ...config.rateLimit,
  onError: (error) => log("cache-unavailable", { message: error }),
});
let ready = false;

const app = createApp({
  database,
  limiter,
  isReady: () => ready,
  log,
  adminToken: config.adminToken,
  edgeKey: config.edgeKey,
  release: config.release,
});
const server = await serve(app, config.port);
log("listening", { port: server.port, release: config.release });

stopOnSignal(async (signal) => {
  log("stopping", { signal });
  await server.stop();
  limiter.close();
  await database.close();
  log("stopped");
});

await awaitDatabase(database, {
  deadlineMs: Number.POSITIVE_INFINITY,
  onWait: (error) => log("waiting-for-database", { message: error }),
});
ready = true;
log("ready");
