import type { Place } from "../../release.ts";
import type { AwsClients } from "./aws-clients.ts";
import { familyOf, readFamily, servicePrefix } from "./names.ts";

/** Task definitions are made before the services and removed last, so their families say what else there may be. */
export async function findFamilies({ ecs }: AwsClients, install: string, place: Place): Promise<string[]> {
  const familyPrefix = servicePrefix(install, place);
  const families: string[] = [];
  let nextToken: string | undefined;
  do {
    // Also those of which nothing is active any more: a removal may have been cut off between the two steps that remove a revision.
    const page = await ecs.listTaskDefinitionFamilies({ familyPrefix, status: "ALL", ...(nextToken && { nextToken }) });
    families.push(...(page.families ?? []).filter((family) => readFamily(install, place, family) !== undefined));
    nextToken = page.nextToken;
  } while (nextToken);
  return families;
}

/** ARNs of a family's revisions, newest first. `INACTIVE`: deregistered and not deleted yet. */
export async function revisionsOf(
  { ecs }: AwsClients,
  family: string,
  status: "ACTIVE" | "INACTIVE",
): Promise<string[]> {
  const revisions: string[] = [];
  let nextToken: string | undefined;
  do {
    const page = await ecs.listTaskDefinitions({ familyPrefix: family, status, ...(nextToken && { nextToken }) });
    // A prefix also matches longer families.
    revisions.push(...(page.taskDefinitionArns ?? []).filter((arn) => familyOf(arn) === family));
    nextToken = page.nextToken;
  } while (nextToken);
  return revisions.sort((a, b) => revisionNumber(b) - revisionNumber(a));
}

/** One DeleteTaskDefinitions call takes at most 10 (Amazon ECS API reference, DeleteTaskDefinitions). */
const DEFINITIONS_A_CALL = 10;

/** Deregisters what is active and deletes all; AWS keeps a deleted one until nothing that runs refers to it. What is gone is no error. */
export async function deleteRevisions({ ecs }: AwsClients, active: string[], inactive: string[]): Promise<void> {
  for (const taskDefinition of active) await ecs.deregisterTaskDefinition({ taskDefinition });
  const all = [...active, ...inactive];
  for (let at = 0; at < all.length; at += DEFINITIONS_A_CALL) {
    await ecs.deleteTaskDefinitions({ taskDefinitions: all.slice(at, at + DEFINITIONS_A_CALL) });
  }
}

const revisionNumber = (arn: string): number => Number(arn.split(":").at(-1));
