import { DomainError } from "../errors.ts";
import { Semaphore } from "../lib/semaphore.ts";

/** Each may keep one connection to the database busy for about a second. */
const WALKS_MAX = 4;
const WAITING_MAX = 64;

const places = new Semaphore(WALKS_MAX);

/**
 * Does what walks through a whole graph or reads many logs: a few at a time, the others in the order they came. Throws
 * `service_unavailable` when too many wait.
 */
export async function asWalk<T>(task: () => Promise<T>): Promise<T> {
  if (places.waiting >= WAITING_MAX) {
    throw new DomainError(
      "service_unavailable",
      "This server computes as many such answers as it can: try again later",
    );
  }
  return await places.run(task);
}
