import { startPostgres } from "#runtime/node/postgres/start.ts";
import { quietLogger } from "../support/quiet-logger.ts";

// A server process as far as PostgreSQL is concerned: starts it on the folder, prints where it is, and waits.
const [folder = ""] = process.argv.slice(2);
try {
  const { address, home, pid } = await startPostgres({ folder, log: quietLogger });
  process.stdout.write(`${JSON.stringify({ address, home, pid })}\n`);
  setInterval(() => {}, 60_000);
} catch (error) {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
}
