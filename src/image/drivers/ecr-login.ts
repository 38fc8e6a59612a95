import { toAwsError } from "../../aws/aws-errors.ts";
import { newAwsCalls } from "../../aws/calls.ts";

/** The value of the header Authorization for a registry's host; undefined for one that is asked as a stranger. */
export type LoginFor = (host: string) => Promise<string | undefined>;

const ECR_HOST = /^\d{12}\.dkr\.ecr\.([a-z0-9-]+)\.amazonaws\.com(\.cn)?$/;

export const isEcrHost = (host: string): boolean => ECR_HOST.test(host);

/** Amazon ECR in any Region, with Shipway's own credentials; every other registry is asked as a stranger. */
export function ecrLogins(): LoginFor {
  return async (host) => {
    const region = ECR_HOST.exec(host)?.[1];
    return region === undefined ? undefined : signIn(region);
  };
}

async function signIn(region: string): Promise<string> {
  const calls = newAwsCalls({ region });
  const { ECR } = await import("@aws-sdk/client-ecr");
  const ecr = calls.open(ECR, "ecr");
  try {
    const { authorizationData } = await ecr.getAuthorizationToken({});
    return `Basic ${authorizationData?.[0]?.authorizationToken ?? ""}`;
  } catch (error) {
    throw toAwsError(error, calls.askedOf(error));
  } finally {
    ecr.destroy();
  }
}
