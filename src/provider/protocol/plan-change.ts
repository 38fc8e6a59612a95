import { type Attributes, isConfigurable } from "./attributes.ts";
import { sameValue, UNKNOWN, type Value, type Values } from "./values.ts";

export type PlannedChange = {
  /** Null where the object is to be removed. */
  planned: Values | null;
  /** Attributes whose change needs a new object. */
  requiresReplace: string[];
};

/**
 * What an apply will make of an object. Terraform holds us to it: what is known here is what must come out, what is UNKNOWN may come out as anything.
 * `isOutdated` says of the object as it is found that it has to be written again even though no attribute of the configuration tells so.
 */
export function planChange(
  attributes: Attributes,
  { prior, config }: { prior: Values | null; config: Values | null },
  isOutdated: (prior: Values) => boolean = () => false,
): PlannedChange {
  if (config === null) return { planned: null, requiresReplace: [] };
  const wanted = new Map(
    Object.entries(attributes).map(([name, attribute]): [string, Value] => {
      if (attribute.writeOnly) return [name, null];
      const given = config[name] ?? attribute.default ?? null;
      if (given !== null || !attribute.computed) return [name, given];
      return [name, prior ? (prior[name] ?? null) : UNKNOWN];
    }),
  );
  if (prior === null) return { planned: Object.fromEntries(wanted), requiresReplace: [] };

  const changed = [...wanted].filter(([name, value]) => !sameValue(prior[name] ?? null, value)).map(([name]) => name);
  const updates = changed.length > 0 || isOutdated(prior);
  for (const [name, attribute] of Object.entries(attributes)) {
    // What the object will say of itself after an update is not known, unless it is known to stay.
    if (updates && attribute.computed && !isConfigurable(attribute) && !attribute.stable) wanted.set(name, UNKNOWN);
  }
  return {
    planned: Object.fromEntries(wanted),
    requiresReplace: changed.filter((name) => attributes[name]?.forceNew),
  };
}
