import { createHash } from "node:crypto";
import type { DatabaseAddress } from "#runtime/node/postgres/start.ts";
import { Grounds } from "./ground.ts";
import { withImmediateCrypto, withoutSystemTimers } from "./platform.ts";
import { simulate } from "./run.ts";
import { makeSigningKey } from "./server.ts";

/** What a process of the pool is asked for. */
export interface SeedOrder {
  readonly seed: number;
  /** Lines of the end of the trace that come back. */
  readonly lines: number;
  readonly recalls: boolean;
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
const grounds = await Grounds.open(server);

async function runSeed({ seed, lines, recalls }: SeedOrder): Promise<SeedResult> {
  return await grounds.with(String(seed), recalls, async (ground) => {
    using _crypto = withImmediateCrypto();
    using _timers = withoutSystemTimers();
    const { error, trace, simulatedMs } = await simulate({ seed, ground, secretKey });
    return {
      seed,
      error: error && { message: error.message, stack: error.stack ?? error.message },
      trace: lines > 0 ? trace.slice(-lines) : [],
      digest: createHash("sha256").update(trace.join("\n")).digest("hex"),
      simulatedMs,
    };
  });
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
process.on("disconnect", () => void grounds.close().finally(() => process.exit(0)));
process.send?.("ready");
