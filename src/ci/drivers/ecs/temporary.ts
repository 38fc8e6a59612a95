import { z } from "zod";
import type { Bucket } from "../../../aws/bucket.ts";
import type { Account } from "./account.ts";

/** What is made in the account for one step alone. */
const Temporary = z.object({ secrets: z.array(z.string()), family: z.string().optional() });
export type Temporary = z.infer<typeof Temporary>;

const NAME = "temporary.json";

/** Written before any of it is made: a crash in between leaves nothing that nobody knows of. */
export const noteTemporary = (bucket: Bucket, stepPrefix: string, made: Temporary): Promise<void> =>
  bucket.put(`${stepPrefix}${NAME}`, JSON.stringify(made));

/** Removes what was made for the steps whose objects these are. Repeating it is a no-op. */
export async function removeTemporary(
  bucket: Bucket,
  account: Account,
  objects: readonly { key: string }[],
): Promise<void> {
  for (const { key } of objects.filter((object) => object.key.endsWith(`/${NAME}`))) {
    const text = await bucket.get(key);
    if (text === undefined) continue;
    const { secrets, family } = Temporary.parse(JSON.parse(text));
    if (family !== undefined) await account.removeDefinition(family);
    for (const name of secrets) await account.removeSecret(name);
  }
}
