import { noneWithout } from "../../../../aws/aws-errors.ts";
import type { ReleaseService } from "../../../release.ts";
import type { EcsSettings } from "../../../runtime.ts";
import type { Ground } from "../ground.ts";
import { type Attributes, differing } from "./service-drift.ts";

/** As Shipway makes a repository: a tag names one content for good. */
const MADE_WITH = { "image.tags": "IMMUTABLE", "image.scanOnPush": "on" };

/** The repository of an image in this installation's part of the account's Amazon ECR; undefined for an image that is elsewhere. */
export function repositoryOf(
  install: string,
  { region, executionRole }: Pick<EcsSettings, "region" | "executionRole">,
  image: string,
): string | undefined {
  const [host = "", ...path] = (image.split("@")[0] ?? "").split("/");
  const [account, , , at] = /^\d{12}\.dkr\.ecr\.[a-z0-9-]+\.amazonaws\.com(\.cn)?$/.test(host) ? host.split(".") : [];
  const isOurs =
    account === executionRole.split(":")[4] && at === region && path[0] === "shipway" && path[1] === install;
  return isOurs ? path.join("/").split(":")[0] : undefined;
}

/** How the services' repositories differ from what they were made with, in one call for all. */
export async function imageDrift(
  { aws, install, settings }: Ground,
  services: ReleaseService[],
  tell: (service: string, attributes: Attributes, remedy: string) => void,
): Promise<void> {
  const names = new Map(services.map(({ name, image }) => [name, repositoryOf(install, settings, image)]));
  const repositoryNames = [...new Set([...names.values()].flatMap((name) => name ?? []))];
  if (repositoryNames.length === 0) return;
  const ecr = await aws.ecr();
  // One that is gone makes AWS answer for none; tasks that cannot fetch their image say so by themselves.
  const page = await ecr.describeRepositories({ repositoryNames }).catch(noneWithout("RepositoryNotFound"));
  for (const [service, name] of names) {
    const seen = page?.repositories?.find(({ repositoryName }) => repositoryName === name);
    if (seen === undefined) continue;
    const { imageTagMutability = "IMMUTABLE", imageScanningConfiguration: scanning } = seen;
    const changed = differing(MADE_WITH, {
      "image.tags": imageTagMutability,
      ...(scanning && { "image.scanOnPush": scanning.scanOnPush === true ? "on" : "off" }),
    });
    const commands = changed.map(({ path }) => `\`aws ecr ${COMMANDS[path] ?? ""} --repository-name ${name}\``);
    tell(service, changed, `Shipway sets it when the repository is made: ${commands.join(" and ")}`);
  }
}

const COMMANDS: Record<string, string> = {
  "image.tags": "put-image-tag-mutability --image-tag-mutability IMMUTABLE",
  "image.scanOnPush": "put-image-scanning-configuration --image-scanning-configuration scanOnPush=true",
};
