import { type Attributes, isConfigurable, typeJson } from "./attributes.ts";
import type { Context, DataSource, Provider } from "./define-provider.ts";
import { type Diagnostic, diagnose, ProviderProblem, problem } from "./diagnostics.ts";
import type { AttributeSchema, ProviderCalls, Schema } from "./messages.ts";
import { planChange } from "./plan-change.ts";
import { decodeValues, encodeValues, inputsOf, isKnown, isUnknown, type Value, type Values } from "./values.ts";

const MARKDOWN = 1;
const GONE = encodeValues({}, null);

/**
 * The calls of the protocol over a provider's declaration. One per served provider: Terraform configures it once. `report` gets what is of use to
 * whoever mends the provider, for Terraform's log.
 */
export function providerCalls<Client>(provider: Provider<Client>, report: (text: string) => void): ProviderCalls {
  const stopping = new AbortController();
  let configured: { client: Client } | { unknown: string } | undefined;

  function context(): Context<Client> {
    if (configured && "client" in configured) return { client: configured.client, signal: stopping.signal };
    throw new ProviderProblem(
      configured ? `The provider's ${configured.unknown} is not known yet` : "The provider is not configured",
      {
        detail: configured
          ? "It comes from something that is still to be made. Make that first, with `terraform apply -target=…`, or give the provider a value that is known."
          : "Terraform did not configure it before it asked for an object.",
      },
    );
  }
  const resource = (type: string) => declared(provider.resources, type);

  /** What is thrown in `work` becomes a diagnostic beside `otherwise`. */
  async function answered<T extends object>(
    doing: string,
    work: () => Promise<T>,
    otherwise: () => Partial<T> = () => ({}),
  ): Promise<Partial<T> & { diagnostics: Diagnostic[] }> {
    try {
      return { diagnostics: [], ...(await work()) };
    } catch (error) {
      return { ...otherwise(), diagnostics: [diagnose(error, doing, report)] };
    }
  }

  async function create(type: string, planned: Values, inputs: Values) {
    const { attributes, create } = resource(type);
    let begun: Values | undefined;
    const whole = (computed: Values) => encodeValues(attributes, settled(attributes, planned, computed));
    return answered(
      `creating ${type}`,
      async () => {
        const computed = await create(inputs as never, {
          ...context(),
          exists: (values) => {
            begun = values as Values;
          },
        });
        return { newState: whole(complete(attributes, planned, computed as Values)) };
      },
      () => ({ newState: begun ? whole(begun) : GONE }),
    );
  }

  async function update(type: string, prior: Values, planned: Values, inputs: Values) {
    const { attributes, update } = resource(type);
    return answered(
      `updating ${type}`,
      async () => {
        if (!update) throw new Error("it cannot be updated");
        const computed = (await update(stateOf(attributes, prior) as never, inputs as never, context())) as Values;
        const whole = complete(attributes, planned, computed);
        return { newState: encodeValues(attributes, settled(attributes, planned, whole)) };
      },
      // What of it was done shows when it is read the next time.
      () => ({ newState: encodeValues(attributes, prior) }),
    );
  }

  async function remove(type: string, prior: Values) {
    const { attributes, remove } = resource(type);
    return answered(
      `removing ${type}`,
      async () => {
        await remove(stateOf(attributes, prior) as never, context());
        return { newState: GONE };
      },
      () => ({ newState: encodeValues(attributes, prior) }),
    );
  }

  return {
    async GetProviderSchema() {
      return {
        provider: schemaOf({ description: "", attributes: provider.attributes }),
        resourceSchemas: mapValues(provider.resources, schemaOf),
        dataSourceSchemas: mapValues(provider.dataSources, schemaOf),
        serverCapabilities: { getProviderSchemaOptional: true },
      };
    },

    ValidateProviderConfig: ({ config }) =>
      answered("checking its configuration", async () => ({
        diagnostics: problemsIn(provider.attributes, decodeValues(provider.attributes, config)),
      })),

    ValidateResourceConfig: ({ typeName, config, clientCapabilities }) =>
      answered(`checking ${typeName}`, async () => {
        const { attributes } = resource(typeName);
        const values = decodeValues(attributes, config);
        const kept = clientCapabilities?.writeOnlyAttributesAllowed ? [] : writeOnlyProblems(attributes, values);
        return { diagnostics: [...problemsIn(attributes, values), ...kept] };
      }),

    ValidateDataResourceConfig: ({ typeName, config }) =>
      answered(`checking ${typeName}`, async () => {
        const { attributes } = declared(provider.dataSources, typeName);
        return { diagnostics: problemsIn(attributes, decodeValues(attributes, config)) };
      }),

    UpgradeResourceState: ({ typeName, version, rawState }) =>
      answered(`reading the state of ${typeName}`, async () => {
        const { attributes, version: ours = 0, upgrade } = resource(typeName);
        if (version > ours) {
          throw new ProviderProblem(`The state of ${typeName} was written by a newer version of this provider`, {
            detail: "Use that version or a newer one, or restore an earlier version of the state.",
          });
        }
        if (!rawState?.json.length) throw new Error("its state is not in JSON");
        if (version === ours) {
          return { upgradedState: encodeValues(attributes, decodeValues(attributes, { json: rawState.json })) };
        }
        if (!upgrade) throw new Error(`nothing is known of its version ${version}`);
        const upgraded = upgrade(version, JSON.parse(Buffer.from(rawState.json).toString("utf8")));
        return { upgradedState: encodeValues(attributes, upgraded as Values) };
      }),

    ConfigureProvider: ({ config }) =>
      answered("being configured", async () => {
        const values = decodeValues(provider.attributes, config) ?? {};
        const unknown = Object.keys(values).find((name) => !isKnown(values[name] ?? null));
        configured =
          unknown === undefined
            ? { client: await provider.configure(inputsOf(provider.attributes, values) as never) }
            : { unknown };
        return {};
      }),

    ReadResource: ({ typeName, currentState }) =>
      answered(
        `reading ${typeName}`,
        async () => {
          const { attributes, read } = resource(typeName);
          const current = decodeValues(attributes, currentState);
          const found = current && (await read(stateOf(attributes, current) as never, context()));
          return { newState: found ? encodeValues(attributes, found as Values) : GONE };
        },
        // Without it Terraform would take the object for gone.
        () => (currentState ? { newState: currentState } : {}),
      ),

    PlanResourceChange: ({ typeName, priorState, config }) =>
      answered(`planning ${typeName}`, async () => {
        const { attributes, isOutdated } = resource(typeName);
        const { planned, requiresReplace } = planChange(
          attributes,
          { prior: decodeValues(attributes, priorState), config: decodeValues(attributes, config) },
          (prior) => isOutdated?.(stateOf(attributes, prior) as never) ?? false,
        );
        return {
          plannedState: encodeValues(attributes, planned),
          requiresReplace: requiresReplace.map((attributeName) => ({ steps: [{ attributeName }] })),
        };
      }),

    ApplyResourceChange: ({ typeName, priorState, plannedState, config }) =>
      answered(
        `changing ${typeName}`,
        async () => {
          const { attributes } = resource(typeName);
          const prior = decodeValues(attributes, priorState);
          const planned = decodeValues(attributes, plannedState);
          if (planned === null) return prior ? remove(typeName, prior) : { newState: GONE };
          const inputs = inputsOf(attributes, { ...decided(planned), ...writeOnlyOf(attributes, config) });
          return prior ? update(typeName, prior, planned, inputs) : create(typeName, planned, inputs);
        },
        () => (priorState ? { newState: priorState } : {}),
      ),

    ImportResourceState: ({ typeName, id }) =>
      answered(`importing ${typeName}`, async () => {
        const { attributes, import: find } = resource(typeName);
        if (!find) {
          throw new ProviderProblem(`${typeName} cannot be imported`, { detail: "Let Terraform create it instead." });
        }
        const found = await find(id, context());
        if (!found) {
          throw new ProviderProblem(`There is no ${typeName} with the id ${JSON.stringify(id)}`, {
            detail: "Check the id; the documentation of the resource says what it is made of.",
          });
        }
        return { importedResources: [{ typeName, state: encodeValues(attributes, found as Values) }] };
      }),

    ReadDataSource: ({ typeName, config }) =>
      answered(`reading ${typeName}`, async () => {
        const { attributes, read } = declared<DataSource<Client>>(provider.dataSources, typeName);
        const inputs = inputsOf(attributes, decodeValues(attributes, config) ?? {});
        return { state: encodeValues(attributes, (await read(inputs as never, context())) as Values) };
      }),

    async StopProvider() {
      stopping.abort(new ProviderProblem("Interrupted", { detail: "Terraform was told to stop." }));
      return { error: "" };
    },
  };

  function writeOnlyOf(attributes: Attributes, config: Parameters<typeof decodeValues>[1]): Values {
    const given = decodeValues(attributes, config) ?? {};
    return Object.fromEntries(Object.entries(given).filter(([name]) => attributes[name]?.writeOnly));
  }
}

function declared<T>(parts: { readonly [type: string]: T }, type: string): T {
  const found = parts[type];
  if (found === undefined) throw new Error(`it knows no ${type}`);
  return found;
}

const mapValues = <T, U>(parts: { readonly [name: string]: T }, change: (part: T) => U): { [name: string]: U } =>
  Object.fromEntries(Object.entries(parts).map(([name, part]) => [name, change(part)]));

function schemaOf({
  description,
  attributes,
  version = 0,
}: {
  description: string;
  attributes: Attributes;
  version?: number;
}): Schema {
  const block = { version, attributes: Object.entries(attributes).map(attributeSchema), description };
  return { version, block: { ...block, descriptionKind: MARKDOWN } };
}

function attributeSchema([name, attribute]: [string, Attributes[string]]): AttributeSchema {
  return {
    name,
    type: Buffer.from(typeJson(attribute.type)),
    description: attribute.description,
    descriptionKind: MARKDOWN,
    required: attribute.required === true,
    optional: attribute.optional === true,
    // To Terraform a default is a value that the provider gives where the configuration gives none.
    computed: attribute.computed === true || attribute.default !== undefined,
    sensitive: attribute.sensitive === true,
    writeOnly: attribute.writeOnly === true,
  };
}

/** What the attributes' own checks say; of what is not known yet they are asked when it is. */
function problemsIn(attributes: Attributes, values: Values | null): Diagnostic[] {
  return Object.entries(attributes).flatMap(([name, { check, sensitive, writeOnly }]) => {
    const value = values?.[name] ?? null;
    const wrong = value === null || !isKnown(value) ? undefined : check?.(value as never);
    const shown = sensitive || writeOnly ? "what it is" : JSON.stringify(value);
    return wrong === undefined ? [] : [problem(`${name} cannot be ${shown}`, wrong, name)];
  });
}

function writeOnlyProblems(attributes: Attributes, values: Values | null): Diagnostic[] {
  return Object.keys(attributes)
    .filter((name) => attributes[name]?.writeOnly && (values?.[name] ?? null) !== null)
    .map((name) =>
      problem(
        `${name} needs Terraform 1.11 or newer`,
        "It is write-only: kept in no plan and no state. An older Terraform would keep it.",
        name,
      ),
    );
}

/** An object as its functions see it: without what is write-only. */
function stateOf(attributes: Attributes, values: Values): Values {
  return Object.fromEntries(Object.entries(values).filter(([name]) => !attributes[name]?.writeOnly));
}

/** Of a plan that is being applied; what is unknown now is for the provider to choose. */
function decided(planned: Values): Values {
  return Object.fromEntries(
    Object.entries(planned).map(([name, value]): [string, Value] => [name, isUnknown(value) ? null : value]),
  );
}

/** The plan with what was unknown in it filled from what was computed. What is known in a plan is a promise. */
function settled(attributes: Attributes, planned: Values, computed: Values): Values {
  return Object.fromEntries(
    Object.keys(attributes).map((name): [string, Value] => {
      const value = planned[name] ?? null;
      return [name, isUnknown(value) ? (computed[name] ?? null) : value];
    }),
  );
}

/** @throws Error when a value is missing: Terraform would blame the user's configuration for it */
function complete(attributes: Attributes, planned: Values, computed: Values): Values {
  for (const [name, attribute] of Object.entries(attributes)) {
    if (isUnknown(planned[name]) && !isConfigurable(attribute) && computed[name] === undefined) {
      throw new Error(`it gave no value for ${name}`);
    }
  }
  return computed;
}
