/**
 * How a service tells that it can be used. `query`: a command in its own container that succeeds then, which says more than an open port (databases open
 * theirs, or a private one, while they still set themselves up). `ports`: one of the ports that its image declares listens. `none`: nothing is known.
 */
export type ReadyCheck = { kind: "query"; argv: string[] } | { kind: "ports"; ports: number[] } | { kind: "none" };

/** The check for a service, from its image's name, its variables and the ports its image declares. */
export function readyCheckOf(image: string, variables: Record<string, string>, exposed: readonly number[]): ReadyCheck {
  const name = image.slice(image.lastIndexOf("/") + 1).split(/[:@]/)[0] ?? "";
  if (/^(mysql|mariadb|percona)/.test(name)) return mysqlCheck(variables);
  if (/^(postgres|postgis|timescaledb|pgvector)/.test(name)) return postgresCheck();
  if (/^(redis|valkey)/.test(name)) {
    // An answer that asks for a password is an answer.
    return shellQuery('"$(command -v redis-cli || command -v valkey-cli)" -h 127.0.0.1 ping | grep -E "PONG|NOAUTH"');
  }
  return exposed.length > 0 ? { kind: "ports", ports: [...exposed] } : { kind: "none" };
}

/**
 * Both as root and as the declared user on the declared database: the user is made last, after the server answers root. Names and passwords are taken from the
 * service's own variables: they are in no argument and no definition.
 */
function mysqlCheck(variables: Record<string, string>): ReadyCheck {
  const of = (key: string) => variables[`MARIADB_${key}`] ?? variables[`MYSQL_${key}`];
  const own = (key: string) => `"\${MARIADB_${key}-$MYSQL_${key}}"`;
  const select = (password: string, as: string) =>
    `MYSQL_PWD=${own(password)} "$(command -v mariadb || command -v mysql)" --protocol=tcp -h127.0.0.1 ${as} -e 'select 1'`;
  const [root, user, database] = ["ROOT_PASSWORD", "USER", "DATABASE"].map(of);
  const rootKnown =
    root !== undefined || of("ALLOW_EMPTY_PASSWORD") !== undefined || of("ALLOW_EMPTY_ROOT_PASSWORD") !== undefined;
  const on = database ? ` ${own("DATABASE")}` : "";
  const hasUser = user !== undefined && user !== "" && user !== "root";
  const checks = [
    ...(rootKnown ? [select("ROOT_PASSWORD", `-uroot${user ? "" : on}`)] : []),
    ...(hasUser ? [select("PASSWORD", `-u${own("USER")}${on}`)] : []),
  ];
  return checks.length === 0 ? { kind: "ports", ports: [3306] } : shellQuery(checks.join(" && "));
}

function postgresCheck(): ReadyCheck {
  const user = `\${POSTGRES_USER-postgres}`;
  const database = `\${POSTGRES_DB-${user}}`;
  return shellQuery(`PGPASSWORD="$POSTGRES_PASSWORD" psql -h 127.0.0.1 -U "${user}" -d "${database}" -c 'select 1'`);
}

const shellQuery = (script: string): ReadyCheck => ({ kind: "query", argv: ["/bin/sh", "-c", script] });
