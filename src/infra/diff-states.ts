import { changedAttributes } from "./changed-attributes.ts";
import type { ChangedAttribute } from "./infra-run.ts";
import { resourcesIn, type StateFile, type StateResource } from "./states.ts";

export type StateDifference = {
  address: string;
  change: "added" | "removed" | "changed";
  attributes: ChangedAttribute[];
};

/** What differs between two states, object by object; sensitive attributes by name only. */
export function diffStates(before: StateFile, after: StateFile): StateDifference[] {
  const [left, right] = [resourcesIn(before), resourcesIn(after)];
  return [...new Set([...left.keys(), ...right.keys()])].sort().flatMap((address): StateDifference[] => {
    const [was, is] = [left.get(address), right.get(address)];
    if (was === undefined) return [{ address, change: "added", attributes: [] }];
    if (is === undefined) return [{ address, change: "removed", attributes: [] }];
    const attributes = changedAttributes({
      before: was.attributes,
      after: is.attributes,
      beforeSensitive: was.sensitive,
      afterSensitive: is.sensitive,
    });
    return attributes.length === 0 ? [] : [{ address, change: "changed", attributes }];
  });
}

/** An object's attributes as people read them. */
export function describeAttributes({ attributes, sensitive }: StateResource): Record<string, string> {
  const hidden = (sensitive ?? {}) as Record<string, unknown>;
  return Object.fromEntries(
    Object.entries(attributes)
      .filter(([, value]) => value !== null)
      .map(([name, value]) => [name, hidden[name] === true ? "(sensitive)" : JSON.stringify(value)]),
  );
}
