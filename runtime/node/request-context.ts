import { AsyncLocalStorage } from "node:async_hooks";

const requests = new AsyncLocalStorage<string>();

/** Runs what answers a request. Whatever is logged meanwhile carries the request's id. */
export async function inRequest(requestId: string, run: () => Promise<void>): Promise<void> {
  await requests.run(requestId, run);
}

/** Of the request that is being answered; undefined for work that no request has asked for. */
export function currentRequestId(): string | undefined {
  return requests.getStore();
}
