import type { Secrets } from "../environment/secrets.ts";
import type { Place } from "../rollout/release.ts";
import { fail, hasCode } from "../shared/errors.ts";
import { getInfraRepository } from "../source/infra-repositories.ts";
import type { Mirrors } from "../source/mirrors.ts";
import { isCommitId } from "../source/ref-name.ts";
import type { Remote } from "../source/remote-git.ts";
import type { Repositories } from "../source/repositories.ts";
import { parseRepositoryAddress, type RepositoryAddress } from "../source/repository-address.ts";
import type { InfraSpec } from "../spec/app-spec.ts";
import type { Database } from "../store/open-store.ts";

export type CodeSpec = Pick<InfraSpec, "repository" | "ref" | "credential">;

/** A commit of infrastructure code, and the name under which it was found. */
export type InfraCommit = { commit: string; refName: string };

/** The repositories that infrastructure code lies in: the app's own, those hosted beside it, and mirrors of those elsewhere. */
export type InfraCode = {
  /** The git directory with the code, which may have to be fetched first (`ensure`). */
  dirOf(app: string, spec: CodeSpec): string;
  /**
   * The newest commit of a repository other than the app's own: of `ref`, else of the spec's, else of its default branch. A whole commit id of a connected one
   * that was fetched before is taken as it is, so that pinning it makes a deployment independent of the other side.
   * @throws INFRA_REPOSITORY_NOT_FOUND, INFRA_REPOSITORY_UNREACHABLE, INFRA_REPOSITORY_REFUSED, COMMIT_NOT_FOUND, SECRET_MISSING, GIT_FAILED
   */
  resolve(place: Place, spec: CodeSpec & { repository: string }, ref?: string): Promise<InfraCommit>;
  /** Makes sure that a commit that was resolved before is here; a connected repository is asked only when it is not. @throws as `resolve` */
  ensure(place: Place, spec: CodeSpec, commit: string): Promise<void>;
  /** Keeps a commit that was applied readable, whatever is pushed over it: drift is measured by it, and put back from it. */
  pin(app: string, spec: CodeSpec, commit: string): Promise<void>;
  /** Packs what fetches have left; for when nobody waits. */
  maintain(app: string): Promise<void>;
  /** Forgets what was fetched for an app. */
  remove(app: string): Promise<void>;
};

export function newInfraCode(deps: {
  db: Database;
  repositories: Repositories;
  mirrors: Mirrors;
  secrets: Secrets;
}): InfraCode {
  const { db, repositories, mirrors, secrets } = deps;

  const remoteOf = async (
    place: Place,
    { url, over, host }: Extract<RepositoryAddress, { kind: "connected" }>,
    { credential }: CodeSpec,
  ): Promise<Remote> => {
    const { values } = await secrets.resolve(place, credential === undefined ? [] : [credential]);
    return { url, over, host, credential: credential === undefined ? undefined : values[credential] };
  };
  const dirOf = (app: string, { repository }: CodeSpec): string => {
    if (repository === undefined) return repositories.dirOf(app);
    const address = addressOf(repository);
    return address.kind === "hosted" ? repositories.dirOf(address.name) : mirrors.dirOf(app, address.url);
  };

  return {
    dirOf,

    async resolve(place, spec, ref = spec.ref) {
      const address = addressOf(spec.repository);
      if (address.kind === "connected") {
        const isHere = ref !== undefined && isCommitId(ref) && (await mirrors.has(place.app, address.url, ref));
        if (isHere) return { commit: ref, refName: ref };
        return mirrors.resolve(place.app, await remoteOf(place, address, spec), ref);
      }
      await getInfraRepository(db, place.app, address.name);
      const refName = ref ?? (await repositories.defaultBranch(address.name));
      const commit = await repositories.resolveCommit(address.name, refName).catch((error: unknown) => {
        throw hasCode(error, "COMMIT_NOT_FOUND") ? refNotFound(address.name, refName) : error;
      });
      return { commit, refName };
    },

    async ensure(place, spec, commit) {
      const address = spec.repository === undefined ? undefined : addressOf(spec.repository);
      // It may have been removed, and the name given to another app, since.
      if (address?.kind === "hosted") await getInfraRepository(db, place.app, address.name);
      // Neither the other side nor the credential is needed for what is here.
      if (address?.kind === "connected" && !(await mirrors.has(place.app, address.url, commit)))
        await mirrors.ensure(place.app, await remoteOf(place, address, spec), commit);
    },

    async pin(app, spec, commit) {
      if (spec.repository === undefined) return;
      const ref = `refs/shipway/applied/${commit}`;
      await repositories.git.run([`--git-dir=${dirOf(app, spec)}`, "update-ref", ref, commit]);
    },

    maintain: (app) => mirrors.maintain(app),
    remove: (app) => mirrors.remove(app),
  };
}

/** Of a spec that was checked when it was read. */
function addressOf(repository: string): RepositoryAddress {
  const address = parseRepositoryAddress(repository);
  if (address) return address;
  throw new Error(`${JSON.stringify(repository)} is no address of a repository`);
}

function refNotFound(repository: string, ref: string) {
  return fail("COMMIT_NOT_FOUND", {
    message: `The infra repository ${repository} has no branch, tag or commit ${JSON.stringify(ref.slice(0, 100))}.`,
    hint: `Push it: \`git push\` to /git/${repository}.git; or name another in \`infra: { ref: … }\`.`,
  });
}
