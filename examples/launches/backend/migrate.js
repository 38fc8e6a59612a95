import { readConfig } from "./src/config.js";
import { awaitDatabase, openDatabase } from "./src/database.js";
import { addDemoData } from "./src/demo-data.js";
import { log } from "./src/log.js";
import { migrate } from "./src/migrations.js";

const config = readConfig(process.env);
const database = openDatabase(config.database, { connections: 1 });
try {
  await awaitDatabase(database, {
    deadlineMs: 60_000,
    onWait: (error) => log("waiting-for-database", { message: error }),
  });
  const { applied, unknown } = await migrate(database, new URL("migrations/", import.meta.url));
  for (const name of applied) log("migrated", { file: name });
  if (unknown.length > 0) log("database-is-ahead", { unknown: unknown.join(",") });
  if (applied.length === 0) log("nothing-to-migrate");
  if (config.demoData) for (const slug of await addDemoData(database)) log("demo-launch-added", { launch: slug });
} catch (error) {
  log("migration-failed", { code: error?.code ?? "unknown", message: error });
  process.exitCode = 1;
} finally {
  await database.close();
}
