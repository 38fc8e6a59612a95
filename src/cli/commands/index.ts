import type { Command } from "../command.ts";
import { appCommands } from "./app.ts";
import { approveCommand } from "./approve.ts";
import { backingCommands } from "./backing.ts";
import { checkCommands } from "./check.ts";
import { deployCommands } from "./deploy.ts";
import { envCommands } from "./env.ts";
import { eventCommands } from "./events.ts";
import { historyCommands } from "./history.ts";
import { infraCommands } from "./infra.ts";
import { infraProviderCommands } from "./infra-provider.ts";
import { loginCommands } from "./login.ts";
import { logCommands } from "./logs.ts";
import { metricsCommands } from "./metrics.ts";
import { notifyCommands } from "./notify.ts";
import { pipelineCommands } from "./pipelines.ts";
import { runCommands } from "./run.ts";
import { secretCommands } from "./secret.ts";
import { serverCommands } from "./server.ts";
import { statusCommands } from "./status.ts";
import { tokenCommands } from "./token.ts";
import { variableCommands } from "./var.ts";

/** Every command of the program. Help, parsing and did-you-mean are made from this list. */
export const COMMANDS: readonly Command[] = [
  ...serverCommands,
  ...loginCommands,
  ...checkCommands,
  ...appCommands,
  ...deployCommands,
  approveCommand,
  ...statusCommands,
  ...logCommands,
  ...metricsCommands,
  ...eventCommands,
  ...historyCommands,
  ...pipelineCommands,
  ...runCommands,
  ...envCommands,
  ...infraCommands,
  ...infraProviderCommands,
  ...notifyCommands,
  ...backingCommands,
  ...variableCommands,
  ...secretCommands,
  ...tokenCommands,
];
