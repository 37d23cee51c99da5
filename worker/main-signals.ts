import { stat } from "node:fs/promises";
import { ServiceManager } from "#core/lib/service-manager.ts";
import type { Logger } from "#core/ports/logger.ts";
import { isHandingOver, statusLine, type WorkState } from "./work-status.ts";

/** What runs until it is told to stop. */
export interface Stoppable {
  run(): Promise<void>;
  /** Takes no more work; `run` ends once what runs has been reported. */
  drain(): Promise<void>;
  /** Gives up what runs. */
  abort(): Promise<void>;
  /** Looks anew at what an operator may have set. */
  reload(): Promise<void>;
  state(): WorkState;
}

const SIGNALS = ["SIGTERM", "SIGINT"] as const;

/**
 * Runs until the work is over. The first SIGTERM or SIGINT lets it finish what it has, the second gives that up; SIGHUP
 * has it look at its settings anew. To the service manager it is up, whether or not a server is: it looks for one.
 */
export async function runUntilSignalled(
  work: Stoppable,
  log: Logger,
  manager: ServiceManager = new ServiceManager(),
): Promise<void> {
  const describe = () => statusLine(work.state());
  let signals = 0;
  const stop = (signal: NodeJS.Signals) => {
    signals++;
    const [message, action] =
      signals === 1
        ? ["finishing what runs, then stopping; a second signal stops at once", () => work.drain()]
        : ["stopping at once", () => work.abort()];
    log.info(message as string, { signal });
    (action as () => Promise<void>)().catch((error: unknown) => log.error("stopping failed", { error }));
    if (signals === 1) manager.stopping(describe, () => isHandingOver(work.state()));
  };
  const reload = () => {
    log.info("looking at the peers file and at Nix's settings anew");
    work.reload().catch((error: unknown) => log.error("what was set anew is not used", { error }));
  };
  for (const signal of SIGNALS) process.on(signal, stop);
  process.on("SIGHUP", reload);
  try {
    const running = work.run();
    manager.ready({ check: filesAnswer, describe });
    await running;
  } finally {
    process.off("SIGHUP", reload);
    for (const signal of SIGNALS) process.off(signal, stop);
  }
}

/** Everything that a worker does takes one of the few threads that do files and look up names. */
async function filesAnswer(): Promise<void> {
  await stat("/");
}
