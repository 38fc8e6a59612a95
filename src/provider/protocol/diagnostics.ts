/** What Terraform shows: a headline, an explanation, and the line of the attribute that it is about. */
export type Diagnostic = {
  severity: 1 | 2;
  summary: string;
  detail: string;
  attribute?: { steps: { attributeName: string }[] };
};

/** A failure with words for the user. `summary` says what happened, `detail` what to do about it. */
export class ProviderProblem extends Error {
  readonly detail: string;
  readonly attribute: string | undefined;

  constructor(summary: string, options: { detail?: string; attribute?: string; cause?: unknown } = {}) {
    super(summary, { cause: options.cause });
    this.name = "ProviderProblem";
    this.detail = options.detail ?? "";
    this.attribute = options.attribute;
  }
}

export function problem(summary: string, detail = "", attribute?: string): Diagnostic {
  return {
    severity: 1,
    summary,
    detail,
    ...(attribute !== undefined && { attribute: { steps: [{ attributeName: attribute }] } }),
  };
}

/**
 * A diagnostic for whatever was thrown. What is not a ProviderProblem is a mistake of the provider: its message is shown, its stack is not, for it
 * names files of the machine it was built on; `report` gets it, for Terraform's log.
 */
export function diagnose(error: unknown, doing: string, report: (text: string) => void): Diagnostic {
  if (error instanceof ProviderProblem) return problem(error.message, error.detail, error.attribute);
  report(error instanceof Error ? (error.stack ?? error.message) : String(error));
  const message = error instanceof Error ? error.message : String(error);
  return problem(
    `The provider failed while ${doing}: ${message.split("\n")[0]}`,
    "This is a mistake in the provider, not in your configuration. Run again with TF_LOG=debug to see where it happened.",
  );
}
