import type { Secrets } from "../environment/secrets.ts";
import { maskQuotes, newMask } from "../events/mask-secrets.ts";
import { errorCode, ShipwayError, toProblem } from "../shared/errors.ts";

/** Terraform quotes what it cannot use, also a connection string from a secret: an error that leaves `work` shows none of the app's secrets. */
export async function maskErrors<T>(secrets: Secrets, app: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    const code = errorCode(error);
    if (code === undefined) throw error;
    const { message, hint } = maskQuotes(toProblem(error), newMask(await secrets.allOfApp(app)));
    throw new ShipwayError(code, { message, hint, cause: error });
  }
}
