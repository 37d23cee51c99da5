import { setDraining } from "../db/scheduler-state.ts";
import { type Actor, requireUser } from "../domain/actor.ts";
import { DomainError } from "../errors.ts";
import type { ServiceDeps } from "./deps.ts";

/** Notified for the whole instance: every server looks at its work again. */
const EVERY_ORGANIZATION = "all";

/** Superusers only, and not by a key: those are for organizations and caches. */
export function requireSuperuser(actor: Actor): void {
  const user = requireUser(actor);
  if (user.superuser && !actor.key) return;
  throw new DomainError("superuser_required", "Only superusers may do this, signed in and not by an API key");
}

/**
 * While the instance drains, what runs goes on and nothing new is given out, by any of its servers. It lasts until it
 * is switched off, or all servers of the time have been restarted.
 */
export async function drainInstance(
  { db, notifier }: Pick<ServiceDeps, "db" | "notifier">,
  actor: Actor,
  enabled: boolean,
): Promise<{ readonly draining: boolean }> {
  requireSuperuser(actor);
  if (await setDraining(db, enabled)) notifier.notify("work", EVERY_ORGANIZATION);
  return { draining: enabled };
}
