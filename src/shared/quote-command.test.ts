import { expect, it } from "vitest";
import { quoteCommand } from "./quote-command.ts";

it.each([
  [["npm", "run", "migrate:up"], "npm run migrate:up"],
  [["sh", "-c", "echo $HOME && ls"], "sh -c 'echo $HOME && ls'"],
  [["echo", "it's", ""], "echo 'it'\\''s' ''"],
])("writes %j as one types it", (command, text) => {
  expect(quoteCommand(command)).toBe(text);
});
