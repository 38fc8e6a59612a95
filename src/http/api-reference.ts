type Schema = {
  type?: string | string[];
  title?: string;
  description?: string;
  enum?: unknown[];
  const?: unknown;
  items?: Schema;
  properties?: Record<string, Schema>;
  required?: string[];
  additionalProperties?: boolean | Schema;
  anyOf?: Schema[];
  default?: unknown;
  nullable?: boolean;
};
type Parameter = { name: string; in: string; required?: boolean; schema: Schema; description?: string };
type Operation = {
  summary?: string;
  description?: string;
  parameters?: Parameter[];
  requestBody?: { content: Record<string, { schema: Schema }> };
  responses: Record<string, { description?: string; content?: Record<string, { schema: Schema }> }>;
};
export type OpenApi = { paths?: Record<string, Record<string, Operation>> };

/** `docs/api.md`, from the document the server itself gives at `/api/openapi.json`. Pure. */
export function renderApiReference(document: OpenApi): string {
  const shapes = new Map<string, Schema>();
  const operations = Object.entries(document.paths ?? {}).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => ({ path, method: method.toUpperCase(), operation })),
  );
  const sections = operations.map((one) => renderOperation(one, shapes));
  return [
    "# The API",
    "",
    "Made from the server's own description (`GET /api/openapi.json`) by `src/http/openapi.test.ts`; `npx vitest run --project unit src/http/openapi.test.ts -u` writes it anew.",
    "",
    "Requests and answers are JSON. Send `Authorization: Bearer TOKEN`, with a token from `shipway token create`. Unknown keys are refused. Every error is",
    "`{ error: Problem }` with a code of [errors.md](errors.md). Times are ISO 8601 in UTC. Git is served at `/git/APP.git`, with the token as password.",
    "",
    ...sections,
    "## Shapes",
    "",
    ...renderShapes(shapes),
  ].join("\n");
}

function renderOperation(
  { path, method, operation }: { path: string; method: string; operation: Operation },
  shapes: Map<string, Schema>,
): string {
  const parameters = (operation.parameters ?? []).filter((one) => one.in !== "path");
  const body = operation.requestBody?.content["application/json"]?.schema;
  const [status, success] =
    Object.entries(operation.responses).find(([code]) => code === "101" || code.startsWith("2")) ?? [];
  const answer = success?.content?.["application/json"]?.schema;
  return [
    `## ${method} ${path}`,
    "",
    `${operation.summary ?? ""}. ${operation.description ?? ""}`,
    "",
    ...parameters.map(
      (one) =>
        `- \`${one.name}\` (${one.in}${one.required ? ", required" : ""}): ${typeOf(one.schema, shapes)}${remark({ ...one.schema, ...(one.description && { description: one.description }) })}`,
    ),
    ...(body ? ["- Body:", "", fenced(typeOf(body, shapes))] : []),
    ...(answer && status !== "204" && status !== "101"
      ? [`- Answer (${status}):`, "", fenced(typeOf(answer, shapes))]
      : [`- Answer: ${status}, empty`, ""]),
  ].join("\n");
}

/** In the order of their names; one that is met first inside another is added while we go. */
function renderShapes(shapes: Map<string, Schema>): string[] {
  const texts = new Map<string, string>();
  while (texts.size < shapes.size) {
    for (const [title, schema] of shapes) if (!texts.has(title)) texts.set(title, bareTypeOf(schema, shapes, ""));
  }
  return [...texts].sort(([a], [b]) => a.localeCompare(b)).map(([title, text]) => `### ${title}\n\n${fenced(text)}`);
}

const fenced = (text: string) => `\`\`\`ts\n${text}\n\`\`\`\n`;
const remark = ({ description, default: byDefault }: Schema) =>
  [description, byDefault === undefined ? undefined : `default ${JSON.stringify(byDefault)}`]
    .filter((part) => part !== undefined)
    .map((part) => ` – ${part}`)
    .join("");

/** A JSON schema in the notation of TypeScript; a schema with a title by its title. */
function typeOf(schema: Schema, shapes: Map<string, Schema>, indent = ""): string {
  if (schema.title !== undefined) {
    shapes.set(schema.title, schema);
    return schema.nullable ? `${schema.title} | null` : schema.title;
  }
  const text = bareTypeOf(schema, shapes, indent);
  return schema.nullable ? `${text} | null` : text;
}

function bareTypeOf(schema: Schema, shapes: Map<string, Schema>, indent: string): string {
  if (schema.anyOf) return [...new Set(schema.anyOf.map((one) => typeOf(one, shapes, indent)))].join(" | ");
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" | ");
  if (schema.items) {
    const item = typeOf(schema.items, shapes, indent);
    return item.includes(" | ") && !item.startsWith("{") ? `(${item})[]` : `${item}[]`;
  }
  if (schema.properties) return objectOf(schema.properties, schema.required ?? [], shapes, indent);
  return schema.type === undefined ? "unknown" : [schema.type].flat().join(" | ");
}

function objectOf(
  properties: Record<string, Schema>,
  required: string[],
  shapes: Map<string, Schema>,
  indent: string,
): string {
  const inner = `${indent}  `;
  const lines = Object.entries(properties).map(([name, schema]) => {
    const said = [
      schema.description,
      schema.default === undefined ? undefined : `default ${JSON.stringify(schema.default)}`,
    ]
      .filter((part) => part !== undefined)
      .join("; ");
    const mark = required.includes(name) ? "" : "?";
    return `${inner}${name}${mark}: ${typeOf(schema, shapes, inner)};${said === "" ? "" : ` // ${said}`}`;
  });
  return lines.length === 0 ? "{}" : `{\n${lines.join("\n")}\n${indent}}`;
}
