/**
 * The public error codes. `docs/errors.md` gives meaning and cure for each (a test keeps the two equal); a code is never reused.
 * `user` errors are ours to explain (exit 2, 4xx), `upstream` errors come from something we depend on (exit 75, 502).
 */
export const ERRORS = {
  SPEC_INVALID: { kind: "user", http: 400, exit: 2 },
  SPEC_MISSING: { kind: "user", http: 400, exit: 2 },
  PIPELINES_INVALID: { kind: "user", http: 400, exit: 2 },
  PIPELINE_VALUES_MISSING: { kind: "user", http: 400, exit: 2 },
  REQUEST_INVALID: { kind: "user", http: 400, exit: 2 },
  USAGE: { kind: "user", http: 400, exit: 2 },
  TOKEN_INVALID: { kind: "user", http: 401, exit: 2 },
  FORBIDDEN: { kind: "user", http: 403, exit: 2 },
  NOT_FOUND: { kind: "user", http: 404, exit: 2 },
  ROUTE_NOT_FOUND: { kind: "user", http: 404, exit: 2 },
  APP_NOT_FOUND: { kind: "user", http: 404, exit: 2 },
  APP_EXISTS: { kind: "user", http: 409, exit: 2 },
  APP_BUSY: { kind: "user", http: 409, exit: 2 },
  ENVIRONMENT_BUSY: { kind: "user", http: 409, exit: 2 },
  ENVIRONMENT_NOT_FOUND: { kind: "user", http: 404, exit: 2 },
  RELEASE_NOT_FOUND: { kind: "user", http: 404, exit: 2 },
  RELEASE_NOT_RESTORABLE: { kind: "user", http: 409, exit: 2 },
  APPROVAL_REFUSED: { kind: "user", http: 409, exit: 2 },
  DEPLOYMENT_NOT_FOUND: { kind: "user", http: 404, exit: 2 },
  PIPELINE_NOT_PAUSED: { kind: "user", http: 409, exit: 2 },
  PIPELINE_NOT_FOUND: { kind: "user", http: 404, exit: 2 },
  COMMIT_NOT_FOUND: { kind: "user", http: 404, exit: 2 },
  SECRET_MISSING: { kind: "user", http: 400, exit: 2 },
  SECRET_NOT_USABLE: { kind: "user", http: 409, exit: 2 },
  SECRET_KEY_WRONG: { kind: "user", http: 409, exit: 2 },
  BACKING_REFUSED: { kind: "user", http: 409, exit: 2 },
  DOCKER_MISSING: { kind: "user", http: 409, exit: 2 },
  DOCKERFILE_MISSING: { kind: "user", http: 400, exit: 2 },
  DOWNTIME_REFUSED: { kind: "user", http: 400, exit: 2 },
  PORT_IN_USE: { kind: "user", http: 409, exit: 2 },
  DATA_DIR_IN_USE: { kind: "user", http: 409, exit: 2 },
  DATABASE_IN_USE: { kind: "user", http: 409, exit: 2 },
  DISK_FULL: { kind: "user", http: 507, exit: 2 },
  INFRA_INVALID: { kind: "user", http: 400, exit: 2 },
  INFRA_NOT_DECLARED: { kind: "user", http: 404, exit: 2 },
  INFRA_RUN_NOT_FOUND: { kind: "user", http: 404, exit: 2 },
  INFRA_FAILED: { kind: "user", http: 409, exit: 2 },
  INFRA_BLOCKED: { kind: "user", http: 409, exit: 2 },
  INFRA_LOCKED: { kind: "user", http: 409, exit: 2 },
  INFRA_PLAN_STALE: { kind: "user", http: 409, exit: 2 },
  INFRA_APPROVAL_NEEDED: { kind: "user", http: 409, exit: 2 },
  INFRA_APPROVAL_REFUSED: { kind: "user", http: 409, exit: 2 },
  INFRA_CANCELED: { kind: "user", http: 409, exit: 2 },
  INFRA_CANCEL_REFUSED: { kind: "user", http: 409, exit: 2 },
  INFRA_PROTECTED: { kind: "user", http: 409, exit: 2 },
  INFRA_STATE_NOT_FOUND: { kind: "user", http: 404, exit: 2 },
  INFRA_STATE_REFUSED: { kind: "user", http: 409, exit: 2 },
  INFRA_OUTPUT_MISSING: { kind: "user", http: 409, exit: 2 },
  INFRA_OUTCOME_UNKNOWN: { kind: "user", http: 409, exit: 2 },
  INFRA_REPOSITORY_NOT_FOUND: { kind: "user", http: 404, exit: 2 },
  INFRA_REPOSITORY_EXISTS: { kind: "user", http: 409, exit: 2 },
  INFRA_REPOSITORY_IN_USE: { kind: "user", http: 409, exit: 2 },
  INFRA_REPOSITORY_REFUSED: { kind: "user", http: 409, exit: 2 },
  TASK_NOT_RUNNING: { kind: "user", http: 409, exit: 2 },
  EXEC_NOT_ENABLED: { kind: "user", http: 409, exit: 2 },
  EXEC_AGENT_DOWN: { kind: "user", http: 409, exit: 2 },
  EXEC_ENCRYPTED: { kind: "user", http: 409, exit: 2 },
  EXEC_NO_SHELL: { kind: "user", http: 409, exit: 2 },
  RUN_LIMIT: { kind: "user", http: 429, exit: 2 },
  TERRAFORM_MISSING: { kind: "user", http: 409, exit: 2 },
  STAND_IN_MISSING: { kind: "user", http: 409, exit: 2 },
  AWS_SETTINGS_INVALID: { kind: "user", http: 400, exit: 2 },
  AWS_CREDENTIALS: { kind: "user", http: 409, exit: 2 },
  AWS_DENIED: { kind: "user", http: 409, exit: 2 },
  AWS_NAME_TAKEN: { kind: "user", http: 409, exit: 2 },
  AWS_NOT_FOUND: { kind: "user", http: 409, exit: 2 },
  AWS_QUOTA: { kind: "user", http: 409, exit: 2 },
  AWS_REFUSED: { kind: "user", http: 409, exit: 2 },
  AWS_RULE_CHANGED: { kind: "user", http: 409, exit: 2 },
  AWS_SLOTS_TAKEN: { kind: "user", http: 409, exit: 2 },
  BACKING_NOT_ON_ECS: { kind: "user", http: 400, exit: 2 },
  RUN_OUTCOME_UNKNOWN: { kind: "user", http: 409, exit: 2 },
  DOCKER_UNREACHABLE: { kind: "upstream", http: 502, exit: 75 },
  DOCKER_FAILED: { kind: "upstream", http: 502, exit: 75 },
  IMAGE_UNAVAILABLE: { kind: "upstream", http: 502, exit: 75 },
  ROLLOUT_STALLED: { kind: "upstream", http: 504, exit: 75 },
  BACKING_UNHEALTHY: { kind: "upstream", http: 502, exit: 75 },
  ROUTER_FAILED: { kind: "upstream", http: 502, exit: 75 },
  AWS_UNREACHABLE: { kind: "upstream", http: 502, exit: 75 },
  AWS_THROTTLED: { kind: "upstream", http: 502, exit: 75 },
  AWS_CAPACITY: { kind: "upstream", http: 502, exit: 75 },
  AWS_LEFTOVERS: { kind: "upstream", http: 502, exit: 75 },
  AWS_TASK_FAILED: { kind: "upstream", http: 502, exit: 75 },
  EXEC_CUT_OFF: { kind: "upstream", http: 502, exit: 75 },
  CODEBUILD_FAILED: { kind: "upstream", http: 502, exit: 75 },
  IMAGE_PUSH_FAILED: { kind: "upstream", http: 502, exit: 75 },
  POSTGRES_UNREACHABLE: { kind: "upstream", http: 502, exit: 75 },
  GIT_FAILED: { kind: "upstream", http: 502, exit: 75 },
  INFRA_REPOSITORY_UNREACHABLE: { kind: "upstream", http: 502, exit: 75 },
  API_UNREACHABLE: { kind: "upstream", http: 502, exit: 75 },
} as const satisfies Record<string, { kind: "user" | "upstream"; http: number; exit: number }>;

export type ErrorCode = keyof typeof ERRORS;
type UserCode = { [C in ErrorCode]: (typeof ERRORS)[C]["kind"] extends "user" ? C : never }[ErrorCode];

/** An error with a public code. Compare with `hasCode`, never by class: a replayed workflow revives it as a plain object. */
export class ShipwayError extends Error {
  readonly code: ErrorCode;
  /** What to do next, as a command where there is one. */
  readonly hint: string | undefined;

  constructor(code: ErrorCode, details: { message: string; hint?: string | undefined; cause?: unknown }) {
    super(details.message, { cause: details.cause });
    this.name = "ShipwayError";
    this.code = code;
    this.hint = details.hint;
  }
}

/** Makes the error to throw. The message says *what happened: why*; a user error must carry a hint. */
export function fail<C extends ErrorCode>(
  code: C,
  details: C extends UserCode
    ? { message: string; hint: string; cause?: unknown }
    : { message: string; hint?: string; cause?: unknown },
): ShipwayError {
  return new ShipwayError(code, details);
}

export function hasCode(error: unknown, code: ErrorCode): boolean {
  return errorCode(error) === code;
}

/** The public code of an error, also when it was revived as a plain object; undefined for a bug or a foreign error. */
export function errorCode(error: unknown): ErrorCode | undefined {
  if (typeof error !== "object" || error === null || !("code" in error)) return undefined;
  return typeof error.code === "string" && Object.hasOwn(ERRORS, error.code) ? (error.code as ErrorCode) : undefined;
}

/** A problem as it is stored, sent and shown: plain JSON. */
export type Problem = { code: string; message: string; hint?: string };

/** What may be shown of any thrown value. A bug keeps its message for the log and shows only that it was one. */
export function toProblem(error: unknown): Problem {
  const code = errorCode(error);
  if (code === undefined) return { code: "BUG", message: error instanceof Error ? error.message : String(error) };
  const { message, hint } = error as { message: string; hint?: string };
  return hint === undefined ? { code, message } : { code, message, hint };
}
