import { z } from "zod";

/** Of an app, a service or an environment. Lower-case letters, digits and dashes: it becomes part of container names and host names (63 characters per label, RFC 1035). */
export const Name = z
  .string()
  .regex(
    /^[a-z]([a-z0-9-]{0,28}[a-z0-9])?$/,
    "use 1 to 30 lower-case letters, digits and dashes, starting with a letter",
  );
