import { createHash } from "node:crypto";
import pg from "pg";
import type { DatabaseAddress } from "#runtime/node/postgres/start.ts";
import { TEMPLATE } from "../support/template.ts";
import { withImmediateCrypto, withoutSystemTimers } from "./platform.ts";
import { simulate } from "./run.ts";
import { makeSigningKey } from "./server.ts";

/** What a process of the pool is asked for. */
export interface SeedOrder {
  readonly seed: number;
  /** Lines of the end of the trace that come back. */
  readonly lines: number;
}

export interface SeedResult {
  readonly seed: number;
  /** Null when all promises were kept. */
  readonly error: { readonly message: string; readonly stack: string } | null;
  readonly trace: readonly string[];
  /** Of the whole trace: equal for equal seeds. */
  readonly digest: string;
  readonly simulatedMs: number;
}

const server = JSON.parse(process.argv[2] as string) as DatabaseAddress;
const secretKey = await makeSigningKey();
const administrator = new pg.Client({ ...server, ssl: false });
await administrator.connect();

async function runSeed({ seed, lines }: SeedOrder): Promise<SeedResult> {
  const database = `sim_${process.pid}_${seed}`;
  await administrator.query(`create database ${database} template ${TEMPLATE}`);
  try {
    using _crypto = withImmediateCrypto();
    using _timers = withoutSystemTimers();
    const { error, trace, simulatedMs } = await simulate({ seed, address: { ...server, database }, secretKey });
    return {
      seed,
      error: error && { message: error.message, stack: error.stack ?? error.message },
      trace: lines > 0 ? trace.slice(-lines) : [],
      digest: createHash("sha256").update(trace.join("\n")).digest("hex"),
      simulatedMs,
    };
  } finally {
    await administrator.query(`drop database ${database} with (force)`);
  }
}

process.on("message", (order: SeedOrder) => {
  runSeed(order).then(
    (result) => process.send?.(result),
    (error: unknown) => {
      console.error(error);
      process.exit(1);
    },
  );
});
process.on("disconnect", () => process.exit(0));
process.send?.("ready");
