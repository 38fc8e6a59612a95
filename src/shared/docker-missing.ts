import { fail } from "./errors.ts";

/** The refusal of what needs a Docker Engine, on a Shipway that was started without one. `what` is a whole sentence without its full stop. */
export function dockerMissing(what: string, hint = DEFAULT_HINT) {
  return fail("DOCKER_MISSING", {
    message: `${what}, and this Shipway runs without a Docker Engine (\`shipway up --no-docker\`).`,
    hint,
  });
}

const DEFAULT_HINT = "Move it to AWS (docs/aws.md), or use a Shipway on a machine with Docker.";
