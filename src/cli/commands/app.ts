import { z } from "zod";
import type { App } from "../../http/schemas.ts";
import { fail } from "../../shared/errors.ts";
import { type Command, type CommandContext, defineCommand } from "../command.ts";
import { currentBranch, isGitCheckout, REMOTE, setCredentialHelper, setRemote } from "../git-checkout.ts";
import { JSON_OUT, JsonFlag } from "../input.ts";
import { findProject, SPEC_FILE } from "../project.ts";

export const appCommands: Command[] = [
  defineCommand({
    name: "app create",
    summary: "make an app, and a git remote for it in this checkout",
    details:
      "In a git checkout this adds the remote `shipway` and lets git find your token by itself.\nThe token is written into no URL and no git configuration.",
    args: [{ name: "name", summary: "the same as `app:` in shipway.yml (default: that one)", optional: true }],
    options: [{ flags: "--no-remote", summary: "leave the checkout as it is" }, JSON_OUT],
    examples: [
      { run: "shipway app create launches", does: "make the app and the remote, then push" },
      { run: "shipway app create launches --no-remote", does: "outside of a checkout" },
    ],
    input: z.strictObject({ name: z.string().optional(), remote: z.boolean().default(true), ...JsonFlag }),
    async run(input, context) {
      const name = input.name ?? (await nameFromSpec(context));
      const app = await (await context.client()).createApp(name);
      if (input.json) context.json(app);
      context.say(`${context.colors.err.green("✓")} The app ${app.name} is there: ${app.gitUrl}`);
      if (input.remote) await connectCheckout(app, context);
      await warnAboutName(name, context);
      return 0;
    },
  }),
  defineCommand({
    name: "app list",
    summary: "the apps you can see",
    options: [JSON_OUT],
    examples: [{ run: "shipway app list", does: "names, environments, git addresses" }],
    input: z.strictObject({ ...JsonFlag }),
    async run({ json }, context) {
      const apps = await (await context.client()).listApps();
      if (json) context.json(apps);
      else if (apps.length === 0) context.say("No app yet. Make one in its checkout: `shipway app create NAME`");
      else
        context.table(apps, [
          { title: "APP", value: (app) => app.name },
          { title: "ENVIRONMENTS", value: (app) => app.environments.join(", ") || "none yet", flexible: true },
          { title: "GIT", value: (app) => app.gitUrl, flexible: true },
        ]);
      return 0;
    },
  }),
  defineCommand({
    name: "app remove",
    summary: "stop and remove an app with everything that belongs to it",
    args: [{ name: "name", summary: "the app" }],
    options: [
      { flags: "--keep-images", summary: "leave its images in Amazon ECR" },
      { flags: "--yes", summary: "do it; without this nothing is removed" },
    ],
    examples: [{ run: "shipway app remove launches --yes", does: "tasks, data, repository and history are gone" }],
    input: z.strictObject({
      name: z.string(),
      keepImages: z.boolean().default(false),
      yes: z.boolean().default(false),
    }),
    async run({ name, keepImages, yes }, context) {
      const client = await context.client();
      const app = await client.getApp(name);
      if (!yes) {
        const where = app.environments.length === 0 ? "" : ` (it runs in ${app.environments.join(", ")})`;
        throw fail("USAGE", {
          message: `This would stop ${name}${where} and remove its data, its ${keepImages ? "repository" : "images, its repository"} and its history for good.`,
          hint: `If you mean it: \`shipway app remove ${name}${keepImages ? " --keep-images" : ""} --yes\``,
        });
      }
      context.say(`→ removing ${name} and all that belongs to it`);
      const { remarks } = await client.removeApp(name, { images: keepImages ? "keep" : "remove" });
      context.say(`${context.colors.err.green("✓")} The app ${name} is removed.`);
      for (const remark of remarks) context.say(`${context.colors.err.yellow("!")} ${remark}`);
      return 0;
    },
  }),
];

async function nameFromSpec(context: CommandContext): Promise<string> {
  const project = await findProject(context.cwd);
  if (project?.app !== undefined) return project.app;
  throw fail("USAGE", {
    message: `Which name? There is no ${SPEC_FILE} here that says one.`,
    hint: "`shipway app create NAME`",
  });
}

async function connectCheckout(app: App, context: CommandContext): Promise<void> {
  if (!(await isGitCheckout(context.cwd))) {
    context.say(`  Next, in its checkout: \`git remote add ${REMOTE} ${app.gitUrl} && git push ${REMOTE} HEAD:main\``);
    return;
  }
  await setCredentialHelper(context.cwd, app.gitUrl, context.credentialsFile, [
    ...context.selfCommand,
    "git-credential",
    "--file",
    context.credentialsFile,
  ]);
  const did = await setRemote(context.cwd, app.gitUrl);
  context.say(`${context.colors.err.green("✓")} The git remote \`${REMOTE}\` was ${did}.`);
  context.say(`  Next: \`git push ${REMOTE} ${(await currentBranch(context.cwd)) ?? "main"}\``);
}

/** A push to an app whose spec names another would be refused: say it now. */
async function warnAboutName(name: string, context: CommandContext): Promise<void> {
  const project = await findProject(context.cwd);
  if (project?.app === undefined || project.app === name) return;
  context.say(
    `${context.colors.err.yellow("!")} ${SPEC_FILE} here says \`app: ${project.app}\`: change it to \`app: ${name}\` before you push.`,
  );
}
