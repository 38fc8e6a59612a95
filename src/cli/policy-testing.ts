import { readFile } from "node:fs/promises";
import { join } from "node:path";
import type { Permission } from "./doctor-aws.ts";

type Statement = {
  Action: string | string[];
  Resource: string | string[];
  Condition?: Record<string, Record<string, string | string[]>>;
};

/** What the module `terraform/aws-fargate` attaches, by these documents of it, filled in with these values. */
export async function shippedStatements(files: string[], values: Record<string, string>): Promise<Statement[]> {
  const texts = await Promise.all(
    files.map((file) =>
      readFile(join(import.meta.dirname, `../../terraform/aws-fargate/policies/${file}.json`), "utf8"),
    ),
  );
  return texts.flatMap((text) => {
    const filled = text.replace(/\$\{(\w+)\}/g, (all, key: string) => ({ partition: "aws", ...values })[key] ?? all);
    return (JSON.parse(filled) as { Statement: Statement[] }).Statement;
  });
}

/** As IAM judges, as far as these policies go: `*` for any text, and conditions on what a call carries. */
export function isAllowed(statements: Statement[], { action, resource, context }: Permission): boolean {
  const fits = (pattern: string, text: string) =>
    new RegExp(`^${pattern.replace(/[.+?^$()|[\]\\{}]/g, "\\$&").replaceAll("*", ".*")}$`).test(text);
  const holds = (operator: string, key: string, wanted: string | string[]) => {
    if (operator === "Null") return (context[key] === undefined) === (wanted === "true");
    const given = context[key] ?? "";
    if (operator === "StringLike") return [wanted].flat().some((pattern) => fits(pattern, given));
    return /^(StringEquals|ArnEquals)$/.test(operator) && [wanted].flat().includes(given);
  };
  return statements.some(
    ({ Action, Resource, Condition = {} }) =>
      [Action].flat().includes(action) &&
      [Resource].flat().some((pattern) => fits(pattern, resource)) &&
      Object.entries(Condition).every(([operator, wanted]) =>
        Object.entries(wanted).every(([key, value]) => holds(operator, key, value)),
      ),
  );
}
