import { writeSync } from "node:fs";
import { type Arguments, parseArguments, UsageError, usage } from "./arguments.ts";
import { processEnvironment } from "./config.ts";
import { ENDS } from "./ends.ts";
import { perform } from "./perform.ts";
import { AGENT_VERSION } from "./version.ts";

const NODE_MAJOR_MIN = 24;
const STDOUT = 1;
const STDERR = 2;

function readCommandLine(): Arguments | null {
  if (Number.parseInt(process.versions.node, 10) < NODE_MAJOR_MIN) {
    throw new UsageError([`gradient-deploy needs Node ${NODE_MAJOR_MIN} or later; this is ${process.versions.node}`]);
  }
  const given = parseArguments(process.argv.slice(2));
  if (given.switches.has("--help")) writeSync(STDOUT, usage());
  else if (given.switches.has("--version")) writeSync(STDOUT, `${AGENT_VERSION}\n`);
  else return given;
  return null;
}

/** The whole process: reads the command line, does what it says and sets the exit code. */
export async function start(): Promise<void> {
  try {
    const given = readCommandLine();
    if (!given) return;
    const ending = new AbortController();
    for (const signal of ["SIGTERM", "SIGINT"] as const) process.once(signal, () => ending.abort());
    // Who reads our words may go away before us; the host is to be looked after all the same.
    process.on("SIGPIPE", () => {});
    process.exitCode = await perform(given, {
      environment: processEnvironment(),
      signal: ending.signal,
      out: (text) => writeSync(STDOUT, text),
      say: (text) => writeSync(STDERR, text),
    });
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    writeSync(STDERR, `gradient-deploy: ${error.message}\n`);
    const { exitCode, description } = ENDS.settings;
    const json = { end: "settings", exit_code: exitCode, description, reason: error.message };
    if (process.argv.includes("--json")) writeSync(STDOUT, `${JSON.stringify(json)}\n`);
    process.exitCode = ENDS.settings.exitCode;
  }
}
