import { SECOND, sleep } from "#core/lib/clock.ts";
import { type Context, InterruptedError } from "./context.ts";
import type { WorkResult } from "./machine.ts";
import { ServerError } from "./ports.ts";
import type { Journal } from "./state.ts";

const PAUSE_MS = SECOND;

export interface Finding {
  readonly problems: readonly string[];
  readonly failedUnits: readonly string[];
}

/**
 * Watches the host until it has been healthy at least once after the settling time, or is still not when the grace
 * period is over.
 */
export async function checkHealth(context: Context, journal: Journal): Promise<WorkResult> {
  const { clock, settings, signal, narrator } = context;
  const began = clock.monotonic();
  let told = "";
  for (;;) {
    const { problems, failedUnits } = await examine(context, journal);
    if (signal.aborted) throw new InterruptedError("interrupted while checking the host's health");
    const seconds = (clock.monotonic() - began) / SECOND;
    const reason = problems.join("; ");
    if (problems.length === 0 && seconds >= settings.healthSettleSeconds) return { ok: true };
    if (problems.length > 0 && seconds >= settings.healthGraceSeconds) {
      return { ok: false, end: "unhealthy", reason, failedUnits };
    }
    if (reason !== told && reason !== "") narrator.warn(`not healthy yet: ${reason}`);
    told = reason;
    await sleep(clock, PAUSE_MS, signal);
  }
}

/** One look: units that failed and had not before, the operator's commands, and the way to the server. */
export async function examine(
  { host, server, settings }: Context,
  {
    failedUnitsBefore,
    ignored = [],
    hasAnswered = false,
  }: Pick<Journal, "failedUnitsBefore"> & {
    /** Units beside those that the settings name. */
    readonly ignored?: readonly string[];
    /** The server was reached a moment ago. */
    readonly hasAnswered?: boolean;
  },
): Promise<Finding> {
  const problems: string[] = [];
  let failedUnits: readonly string[] = [];
  if (settings.healthUnits) {
    const after = await host.failedUnits();
    failedUnits = newlyFailed(failedUnitsBefore, after, [...settings.healthIgnoredUnits, ...ignored]);
    // It could be asked before: a system that took systemd's bus away is not healthy.
    if (failedUnitsBefore && !after) problems.push("systemd does not say which units have failed");
    if (failedUnits.length > 0) problems.push(`units failed: ${failedUnits.slice(0, 20).join(", ")}`);
  }
  problems.push(...(await host.failedCommands()));
  if (settings.healthServer && !hasAnswered) {
    try {
      await server.reach();
    } catch (error) {
      if (!(error instanceof ServerError)) throw error;
      problems.push(`the server cannot be reached: ${error.message}`);
    }
  }
  return { problems, failedUnits };
}

/** Those that were well before. Where it is not known what had failed before, nobody can say what is new. */
export function newlyFailed(
  before: readonly string[] | null,
  after: readonly string[] | null,
  ignored: readonly string[],
): readonly string[] {
  if (!before || !after) return [];
  const patterns = ignored.map(unitPattern);
  return after.filter((unit) => !before.includes(unit) && !patterns.some((pattern) => pattern.test(unit)));
}

function unitPattern(glob: string): RegExp {
  const parts = glob.split("*").map((part) => part.replace(/[.\\@:^$+?()[\]{}|-]/g, "\\$&"));
  return new RegExp(`^${parts.join(".*")}$`);
}
