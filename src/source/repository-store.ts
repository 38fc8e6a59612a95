import { fail } from "../shared/errors.ts";
import type { GitCommand } from "./git-command.ts";

/** The directory of all hosted repositories, and git run in one of them. */
export type RepositoryStore = {
  root: string;
  git: GitCommand;
  dirOf(app: string): string;
  run(app: string, args: string[], options?: Parameters<GitCommand["run"]>[1]): ReturnType<GitCommand["run"]>;
};

export function isMissing(error: unknown): boolean {
  return typeof error === "object" && error !== null && "code" in error && error.code === "ENOENT";
}

export function appNotFound(app: string) {
  return fail("APP_NOT_FOUND", {
    message: `There is no app ${app} here.`,
    hint: `Create it: \`shipway app create ${app}\`.`,
  });
}
