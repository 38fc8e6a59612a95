import pg from "pg";

/** Runs one statement on the test run's Postgres. Apart from `testing.ts`, since vitest's set-up runs where its own API is not. */
export async function onServer(serverUrl: string, statement: string): Promise<void> {
  const client = new pg.Client({ connectionString: serverUrl });
  await client.connect();
  await client.query(statement).finally(() => client.end());
}
