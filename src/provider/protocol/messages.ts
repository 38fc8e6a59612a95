import protobuf from "protobufjs/light.js";
import type { Diagnostic } from "./diagnostics.ts";
import type { DynamicValue } from "./values.ts";

/**
 * The messages of plugin protocol 6.8 that we take part in, by the field numbers of Terraform's docs/plugin-protocol. Names do not travel, so they are
 * ours; fields we neither read nor fill are left out, and skipped when they come.
 */
const message = (fields: { [name: string]: readonly [number, string] | readonly [number, "list", string] }) => ({
  fields: Object.fromEntries(
    Object.entries(fields).map(([name, [id, type, item]]) => [
      name,
      item === undefined ? { id, type } : { id, type: item, rule: "repeated" },
    ]),
  ),
});
const mapField = (id: number, type: string) => ({ id, type, keyType: "string" });

const root = protobuf.Root.fromJSON({
  nested: {
    Empty: message({}),
    DynamicValue: message({ msgpack: [1, "bytes"], json: [2, "bytes"] }),
    Step: message({ attributeName: [1, "string"] }),
    AttributePath: message({ steps: [1, "list", "Step"] }),
    Diagnostic: message({
      severity: [1, "int32"],
      summary: [2, "string"],
      detail: [3, "string"],
      attribute: [4, "AttributePath"],
    }),
    Diagnostics: message({ diagnostics: [1, "list", "Diagnostic"] }),
    ProviderDiagnostics: message({ diagnostics: [2, "list", "Diagnostic"] }),
    AttributeSchema: message({
      name: [1, "string"],
      type: [2, "bytes"],
      description: [3, "string"],
      required: [4, "bool"],
      optional: [5, "bool"],
      computed: [6, "bool"],
      sensitive: [7, "bool"],
      descriptionKind: [8, "int32"],
      writeOnly: [11, "bool"],
    }),
    Block: message({
      version: [1, "int64"],
      attributes: [2, "list", "AttributeSchema"],
      description: [4, "string"],
      descriptionKind: [5, "int32"],
    }),
    Schema: message({ version: [1, "int64"], block: [2, "Block"] }),
    ServerCapabilities: message({ getProviderSchemaOptional: [2, "bool"] }),
    ClientCapabilities: message({ writeOnlyAttributesAllowed: [2, "bool"] }),
    SchemaAnswer: {
      fields: {
        provider: { id: 1, type: "Schema" },
        resourceSchemas: mapField(2, "Schema"),
        dataSourceSchemas: mapField(3, "Schema"),
        diagnostics: { id: 4, type: "Diagnostic", rule: "repeated" },
        serverCapabilities: { id: 6, type: "ServerCapabilities" },
      },
    },
    ProviderConfig: message({ config: [1, "DynamicValue"] }),
    ConfigureAsk: message({ config: [2, "DynamicValue"] }),
    ConfigAsk: message({
      typeName: [1, "string"],
      config: [2, "DynamicValue"],
      clientCapabilities: [3, "ClientCapabilities"],
    }),
    RawState: message({ json: [1, "bytes"] }),
    UpgradeAsk: message({ typeName: [1, "string"], version: [2, "int64"], rawState: [3, "RawState"] }),
    UpgradeAnswer: message({ upgradedState: [1, "DynamicValue"], diagnostics: [2, "list", "Diagnostic"] }),
    ReadAsk: message({ typeName: [1, "string"], currentState: [2, "DynamicValue"] }),
    ReadAnswer: message({ newState: [1, "DynamicValue"], diagnostics: [2, "list", "Diagnostic"] }),
    PlanAsk: message({ typeName: [1, "string"], priorState: [2, "DynamicValue"], config: [4, "DynamicValue"] }),
    PlanAnswer: message({
      plannedState: [1, "DynamicValue"],
      requiresReplace: [2, "list", "AttributePath"],
      diagnostics: [4, "list", "Diagnostic"],
    }),
    ApplyAsk: message({
      typeName: [1, "string"],
      priorState: [2, "DynamicValue"],
      plannedState: [3, "DynamicValue"],
      config: [4, "DynamicValue"],
    }),
    ApplyAnswer: message({ newState: [1, "DynamicValue"], diagnostics: [3, "list", "Diagnostic"] }),
    ImportAsk: message({ typeName: [1, "string"], id: [2, "string"] }),
    ImportedResource: message({ typeName: [1, "string"], state: [2, "DynamicValue"] }),
    ImportAnswer: message({
      importedResources: [1, "list", "ImportedResource"],
      diagnostics: [2, "list", "Diagnostic"],
    }),
    DataAnswer: message({ state: [1, "DynamicValue"], diagnostics: [2, "list", "Diagnostic"] }),
    StopAnswer: message({ error: [1, "string"] }),
  },
});

/** The calls that Terraform makes: the type of the question and of the answer. */
export const CALLS = {
  GetProviderSchema: ["Empty", "SchemaAnswer"],
  ValidateProviderConfig: ["ProviderConfig", "ProviderDiagnostics"],
  ValidateResourceConfig: ["ConfigAsk", "Diagnostics"],
  ValidateDataResourceConfig: ["ConfigAsk", "Diagnostics"],
  UpgradeResourceState: ["UpgradeAsk", "UpgradeAnswer"],
  ConfigureProvider: ["ConfigureAsk", "Diagnostics"],
  ReadResource: ["ReadAsk", "ReadAnswer"],
  PlanResourceChange: ["PlanAsk", "PlanAnswer"],
  ApplyResourceChange: ["ApplyAsk", "ApplyAnswer"],
  ImportResourceState: ["ImportAsk", "ImportAnswer"],
  ReadDataSource: ["ConfigAsk", "DataAnswer"],
  StopProvider: ["Empty", "StopAnswer"],
} as const;

type Diagnostics = { diagnostics: Diagnostic[] };
type Sent = DynamicValue | null;
type AttributePath = { steps: { attributeName: string }[] };
export type AttributeSchema = {
  name: string;
  type: Uint8Array;
  description: string;
  descriptionKind: number;
  required: boolean;
  optional: boolean;
  computed: boolean;
  sensitive: boolean;
  writeOnly: boolean;
};
export type Schema = {
  version: number;
  block: { version: number; attributes: AttributeSchema[]; description: string; descriptionKind: number };
};
type ConfigAsk = {
  typeName: string;
  config: Sent;
  clientCapabilities: { writeOnlyAttributesAllowed: boolean } | null;
};

/** What each call is answered with. A call never fails: what goes wrong is a diagnostic in its answer. */
export type ProviderCalls = {
  GetProviderSchema(): Promise<{
    provider: Schema;
    resourceSchemas: { [type: string]: Schema };
    dataSourceSchemas: { [type: string]: Schema };
    serverCapabilities: { getProviderSchemaOptional: boolean };
  }>;
  ValidateProviderConfig(ask: { config: Sent }): Promise<Diagnostics>;
  ValidateResourceConfig(ask: ConfigAsk): Promise<Diagnostics>;
  ValidateDataResourceConfig(ask: ConfigAsk): Promise<Diagnostics>;
  UpgradeResourceState(ask: {
    typeName: string;
    version: number;
    rawState: { json: Uint8Array } | null;
  }): Promise<{ upgradedState?: DynamicValue } & Diagnostics>;
  ConfigureProvider(ask: { config: Sent }): Promise<Diagnostics>;
  ReadResource(ask: { typeName: string; currentState: Sent }): Promise<{ newState?: DynamicValue } & Diagnostics>;
  PlanResourceChange(ask: {
    typeName: string;
    priorState: Sent;
    config: Sent;
  }): Promise<{ plannedState?: DynamicValue; requiresReplace?: AttributePath[] } & Diagnostics>;
  ApplyResourceChange(ask: {
    typeName: string;
    priorState: Sent;
    plannedState: Sent;
    config: Sent;
  }): Promise<{ newState?: DynamicValue } & Diagnostics>;
  ImportResourceState(ask: {
    typeName: string;
    id: string;
  }): Promise<{ importedResources?: { typeName: string; state: DynamicValue }[] } & Diagnostics>;
  ReadDataSource(ask: ConfigAsk): Promise<{ state?: DynamicValue } & Diagnostics>;
  StopProvider(): Promise<{ error: string }>;
};

/** Message to bytes and back; a number of 64 bits is a number of ours, what was not sent has the default of its type. */
export function codecOf(name: string): { encode(value: object): Buffer; decode(bytes: Uint8Array): object } {
  const type = root.lookupType(name);
  return {
    encode: (value) => Buffer.from(type.encode(type.fromObject(value)).finish()),
    decode: (bytes) => type.toObject(type.decode(bytes), { longs: Number, bytes: Buffer, defaults: true }),
  };
}
