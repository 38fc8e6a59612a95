import type { Sealer } from "../environment/sealing.ts";
import { findOutputs } from "../infra/outputs.ts";
import type { AppSpec } from "../spec/app-spec.ts";
import { type CiSettings, ciSettingsOf } from "../spec/ci-settings.ts";
import type { Database } from "../store/open-store.ts";

/**
 * Where the steps of a change run and its images are built, by what the Terraform of `ci.environment` gave when it was last applied; that it was applied by a
 * deployment is not needed.
 * @throws AWS_SETTINGS_INVALID
 */
export async function findCiSettings(db: Database, sealer: Sealer, spec: AppSpec): Promise<CiSettings> {
  const environment = spec.ci?.environment;
  const outputs = environment === undefined ? undefined : await findOutputs(db, sealer, { app: spec.app, environment });
  return ciSettingsOf(
    spec,
    outputs && Object.fromEntries(Object.entries(outputs).map(([name, { value }]) => [name, value])),
  );
}
