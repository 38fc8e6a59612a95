import { z } from "zod";
import type { InfraRepositoryView } from "../../http/infra-schemas.ts";
import { fail } from "../../shared/errors.ts";
import { type Command, type CommandContext, defineCommand } from "../command.ts";
import { formatAgo } from "../format.ts";
import { currentBranch, isGitCheckout, REMOTE, setCredentialHelper, setRemote } from "../git-checkout.ts";
import { APP, AppFlag, appFor, JSON_OUT, JsonFlag } from "../input.ts";
import { findProject } from "../project.ts";

const NAME = { name: "name", summary: "the repository (shop-infra)" };

export const infraRepositoryCommands: Command[] = [
  defineCommand({
    name: "infra repository create",
    summary: "make a repository for an app's Terraform code",
    details:
      "In a git checkout that is not the app's (it has no shipway.yml) this adds the remote `shipway`, as `app create` does.\nName it in shipway.yml: `infra: { repository: NAME, dir: … }`.",
    args: [NAME],
    options: [APP, { flags: "--no-remote", summary: "leave the checkout as it is" }, JSON_OUT],
    examples: [{ run: "shipway infra repository create shop-infra --app shop", does: "then push the code to it" }],
    input: z.strictObject({ name: z.string(), ...AppFlag, remote: z.boolean().default(true), ...JsonFlag }),
    async run(input, context) {
      const app = await appFor(input, context);
      const repository = await (await context.client()).createInfraRepository(app, input.name);
      if (input.json) context.json(repository);
      const { green } = context.colors.err;
      context.say(`${green("✓")} The infra repository ${repository.name} of ${app} is there: ${repository.gitUrl}`);
      await sayHowToPush(repository, input.remote, context);
      context.say(`  In ${app}'s shipway.yml: \`infra: { repository: ${repository.name}, dir: . }\``);
      return 0;
    },
  }),
  defineCommand({
    name: "infra repository list",
    summary: "an app's hosted infra repositories",
    options: [APP, JSON_OUT],
    examples: [{ run: "shipway infra repository list --app shop", does: "names, and what was applied from them" }],
    input: z.strictObject({ ...AppFlag, ...JsonFlag }),
    async run(input, context) {
      const app = await appFor(input, context);
      const found = await (await context.client()).listInfraRepositories(app);
      if (input.json) context.json(found);
      else if (found.length === 0)
        context.say(`${app} has no infra repository. Make one: \`shipway infra repository create ${app}-infra\``);
      else
        context.table(found, [
          { title: "REPOSITORY", value: ({ name }) => name },
          { title: "ENVIRONMENTS", value: ({ environments }) => environments.join(", ") || "none yet", flexible: true },
          { title: "GIT", value: ({ gitUrl }) => gitUrl, flexible: true },
          { title: "MADE", value: ({ createdAt }) => formatAgo(createdAt, context.now()) },
        ]);
      return 0;
    },
  }),
  defineCommand({
    name: "infra repository remove",
    summary: "remove an infra repository that nothing is applied from any more",
    args: [NAME],
    options: [APP, { flags: "--yes", summary: "do it; without this nothing is removed" }],
    examples: [{ run: "shipway infra repository remove shop-infra --yes", does: "its history is gone" }],
    input: z.strictObject({ name: z.string(), ...AppFlag, yes: z.boolean().default(false) }),
    async run(input, context) {
      const app = await appFor(input, context);
      if (!input.yes) {
        throw fail("USAGE", {
          message: `This would remove the infra repository ${input.name} of ${app} with its history for good.`,
          hint: `If you mean it: \`shipway infra repository remove ${input.name} --app ${app} --yes\``,
        });
      }
      await (await context.client()).removeInfraRepository(app, input.name);
      context.say(`${context.colors.err.green("✓")} The infra repository ${input.name} is removed.`);
      return 0;
    },
  }),
];

async function sayHowToPush(
  { gitUrl }: InfraRepositoryView,
  wantsRemote: boolean,
  context: CommandContext,
): Promise<void> {
  const isOther = (await findProject(context.cwd)) === undefined && (await isGitCheckout(context.cwd));
  if (!wantsRemote || !isOther) {
    context.say(`  Next, in its checkout: \`git remote add ${REMOTE} ${gitUrl} && git push ${REMOTE} HEAD:main\``);
    return;
  }
  await setCredentialHelper(context.cwd, gitUrl, context.credentialsFile, [
    ...context.selfCommand,
    "git-credential",
    "--file",
    context.credentialsFile,
  ]);
  const did = await setRemote(context.cwd, gitUrl);
  context.say(`${context.colors.err.green("✓")} The git remote \`${REMOTE}\` was ${did}.`);
  context.say(`  Next: \`git push ${REMOTE} ${(await currentBranch(context.cwd)) ?? "main"}\``);
}
