import { toAwsError } from "../../../aws/aws-errors.ts";
import type { AwsClients } from "./aws-clients.ts";

/** The one place where what AWS says becomes a public error. */
export function withPublicErrors<Port extends object>(aws: Pick<AwsClients, "askedOf">, inner: Port): Port {
  const guarded = Object.entries(inner).map(([name, method]) => [
    name,
    (...args: never[]) => {
      try {
        const result: unknown = (method as (...args: never[]) => unknown)(...args);
        if (!(result instanceof Promise)) return result;
        return result.catch((error: unknown) => {
          throw toAwsError(error, aws.askedOf(error));
        });
      } catch (error) {
        throw toAwsError(error, aws.askedOf(error));
      }
    },
  ]);
  return Object.fromEntries(guarded) as Port;
}
