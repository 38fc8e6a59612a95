import type { Logger } from "pino";
import { mayActAs } from "../access/roles.ts";
import { findIdentity } from "../access/tokens.ts";
import { type GitHttpLog, gitHttp } from "../source/git-http.ts";
import { appOfRepository } from "../source/infra-repositories.ts";
import type { Platform } from "./platform.ts";
import { pushProgress } from "./push-progress.ts";
import type { Server } from "./server.ts";

/** Hosted git, with a token as the password: an app's repository and its infra repositories open to the roles in that app. */
export async function serveGit(server: Server, platform: Platform, log: GitHttpLog | Logger): Promise<void> {
  const { db } = platform.store;
  await server.register(gitHttp, {
    repositories: platform.repositories,
    log,
    onPush: (push, signal) => pushProgress(platform, push, signal),
    authenticate: async ({ password }) => {
      const identity = await findIdentity(db, password);
      return (
        identity && {
          actor: identity.name,
          canRead: async (name) => mayActAs(identity, "viewer", await appOfRepository(db, name)),
          canWrite: async (name) => mayActAs(identity, "developer", await appOfRepository(db, name)),
        }
      );
    },
  });
}
