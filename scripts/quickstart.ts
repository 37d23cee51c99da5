// npm run quickstart: a running Gradient on this machine with one command. See USAGE in quickstart/options.ts.
import { dirname } from "node:path";
import { fileURLToPath } from "node:url";
import { ApiError } from "./quickstart/api.ts";
import { parseOptions, type QuickstartOptions, USAGE } from "./quickstart/options.ts";
import { createOutput } from "./quickstart/output.ts";
import { QuickstartError } from "./quickstart/problem.ts";
import { run } from "./quickstart/run.ts";

const EXIT_FAILED = 1;
const EXIT_USAGE = 2;
const EXIT_INTERRUPTED = 130;

const root = dirname(dirname(fileURLToPath(import.meta.url)));

async function main(options: QuickstartOptions): Promise<number> {
  const stream = options.json ? process.stderr : process.stdout;
  const output = createOutput({ stream, input: options.yes ? null : process.stdin });
  const stop = new AbortController();
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
    process.on(signal, () => {
      if (!stop.signal.aborted) output.text("\nStopping.");
      stop.abort();
    });
  }
  try {
    const printJson = (line: string) => process.stdout.write(`${line}\n`);
    const built = await run({ options, root, output, printJson, signal: stop.signal });
    return built ? 0 : EXIT_FAILED;
  } catch (error) {
    // Whatever was under way ends with an error of its own.
    if (stop.signal.aborted) return EXIT_INTERRUPTED;
    if (!(error instanceof QuickstartError || error instanceof ApiError)) throw error;
    output.bad("error", error.message);
    return EXIT_FAILED;
  }
}

function readOptions(): QuickstartOptions | null {
  try {
    return parseOptions(process.argv.slice(2), root, process.env.GRADIENT_INVOKED_FROM ?? process.cwd());
  } catch (error) {
    if (!(error instanceof QuickstartError)) throw error;
    process.stderr.write(`${error.message}\n`);
    return null;
  }
}

const options = readOptions();
if (options?.help) process.stdout.write(USAGE);
process.exitCode = options === null ? EXIT_USAGE : options.help ? 0 : await main(options);
