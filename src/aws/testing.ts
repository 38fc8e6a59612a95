import { spawnSync } from "node:child_process";

/** Found, not imported: importing it takes 0.6 s of processor time, and each test file asks. */
const FIND =
  "import sys; from importlib.util import find_spec; sys.exit(not (find_spec('moto') and find_spec('flask')))";

/** Whether the AWS emulator is installed, with what its server needs. */
export const hasMoto = spawnSync("python3", ["-c", FIND], { stdio: "ignore" }).status === 0;
