import { SECOND, sleep } from "#core/lib/clock.ts";
import { type Context, InterruptedError } from "./context.ts";

const PAUSE_MS = 10 * SECOND;

/** Null as soon as nothing speaks against a switch; the reason when the time is over. */
export async function waitUntilFree({ host, settings, clock, narrator, signal }: Context): Promise<string | null> {
  const until = clock.monotonic() + settings.waitSeconds * SECOND;
  let told = "";
  for (;;) {
    const reason = await host.busyReason("switch");
    if (signal.aborted) throw new InterruptedError("interrupted while the host was busy");
    const left = until - clock.monotonic();
    if (reason === null || left <= 0) return reason;
    if (reason !== told) narrator.info(`waiting: ${reason}`);
    told = reason;
    await sleep(clock, Math.min(PAUSE_MS, left), signal);
  }
}
