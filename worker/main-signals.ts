import type { Logger } from "#core/ports/logger.ts";

/** What runs until it is told to stop. */
export interface Stoppable {
  run(): Promise<void>;
  /** Takes no more work; `run` ends once what runs has been reported. */
  drain(): Promise<void>;
  /** Gives up what runs. */
  abort(): Promise<void>;
  /** Looks anew at what an operator may have set. */
  reload(): Promise<void>;
}

const SIGNALS = ["SIGTERM", "SIGINT"] as const;

/**
 * Runs until the work is over. The first SIGTERM or SIGINT lets it finish what it has, the second gives that up; SIGHUP
 * has it look at its settings anew.
 */
export async function runUntilSignalled(work: Stoppable, log: Logger): Promise<void> {
  let signals = 0;
  const stop = (signal: NodeJS.Signals) => {
    signals++;
    const [message, action] =
      signals === 1
        ? ["finishing what runs, then stopping; a second signal stops at once", () => work.drain()]
        : ["stopping at once", () => work.abort()];
    log.info(message as string, { signal });
    (action as () => Promise<void>)().catch((error: unknown) => log.error("stopping failed", { error }));
  };
  const reload = () => {
    log.info("looking at the peers file and at Nix's settings anew");
    work.reload().catch((error: unknown) => log.error("what was set anew is not used", { error }));
  };
  for (const signal of SIGNALS) process.on(signal, stop);
  process.on("SIGHUP", reload);
  try {
    await work.run();
  } finally {
    process.off("SIGHUP", reload);
    for (const signal of SIGNALS) process.off(signal, stop);
  }
}
