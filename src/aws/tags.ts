import { fail } from "../shared/errors.ts";

/** What our things are found and recognised by. `shipway:install` says whose it is; a name never does. */
export type Tags = Record<string, string>;

export const INSTALL_TAG = "shipway:install";

/** As ECS and CloudWatch Logs (`lower`) or ELB, ECR and Secrets Manager (`upper`) want them. */
export const lowerTags = (tags: Tags) => Object.entries(tags).map(([key, value]) => ({ key, value }));
export const upperTags = (tags: Tags) => Object.entries(tags).map(([Key, Value]) => ({ Key, Value }));

/** Either form back. */
export function readTags(
  list:
    | { key?: string | undefined; value?: string | undefined; Key?: string | undefined; Value?: string | undefined }[]
    | undefined,
): Tags {
  return Object.fromEntries((list ?? []).map((one) => [one.key ?? one.Key ?? "", one.value ?? one.Value ?? ""]));
}

/** @throws AWS_NAME_TAKEN when the thing was not made by this installation: it is never adopted */
export function requireOurs(install: string, what: string, tags: Tags): void {
  const owner = tags[INSTALL_TAG];
  if (owner === install) return;
  throw fail("AWS_NAME_TAKEN", {
    message: `${what} exists already and ${owner === undefined ? "was not made by Shipway" : `belongs to the Shipway installation ${owner}`}; it was left as it is.`,
    hint: "Remove or rename it in the AWS account, or give this environment another cluster and listener.",
  });
}
