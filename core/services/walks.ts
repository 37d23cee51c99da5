import type { Actor } from "../domain/actor.ts";
import { DomainError } from "../errors.ts";
import { Semaphore } from "../lib/semaphore.ts";

/** Each may keep one connection to the database busy for about a second. */
const WALKS_MAX = 4;
const WAITING_MAX = 64;
/** A quarter of them: nobody takes all places of the others. */
const CLIENT_WALKS_MAX = 16;

const places = new Semaphore(WALKS_MAX);
const walksOf = new Map<string, number>();

/**
 * Does what walks through a whole graph or reads many logs: a few at a time, the others in the order they came. Throws
 * `too_many_requests` when who asks has as many under way as one may, `service_unavailable` when too many wait. The
 * server's own walks, for which nobody asked, have no share.
 */
export async function asWalk<T>(asker: Actor | null, task: () => Promise<T>): Promise<T> {
  if (places.waiting >= WAITING_MAX) {
    throw new DomainError(
      "service_unavailable",
      "This server computes as many such answers as it can: try again later",
    );
  }
  if (asker === null) return await places.run(task);
  // Who is signed in, wherever they are; else an address.
  const client = asker.user?.id ?? asker.client?.network ?? "";
  const count = walksOf.get(client) ?? 0;
  if (count >= CLIENT_WALKS_MAX) {
    throw new DomainError(
      "too_many_requests",
      `You have asked for ${CLIENT_WALKS_MAX} such answers at once: wait until some of them are there`,
    );
  }
  walksOf.set(client, count + 1);
  try {
    return await places.run(task);
  } finally {
    leave(client);
  }
}

function leave(client: string): void {
  const count = (walksOf.get(client) ?? 1) - 1;
  if (count > 0) walksOf.set(client, count);
  else walksOf.delete(client);
}
