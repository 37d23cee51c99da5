import { mayOpenSocket, type PageOrigins } from "./page-origin.ts";

const UPGRADE_REQUIRED = 426;

/** What a WebSocket is sent once it is open. */
export interface LiveOffer {
  /**
   * Texts, in order; null where nothing came for a while. Ends when there will be none any more, or the signal is
   * aborted. Throws a `DomainError` when there is no room for another reader.
   */
  readonly open: (signal: AbortSignal) => Promise<AsyncIterable<string | null>>;
}

const offers = new WeakMap<Request, LiveOffer>();

/**
 * The answer to a request that asks to become a WebSocket. A runtime that can makes it one, and sends what is offered:
 * it finds the offer by the request, since an answer may be copied on its way out.
 */
export function offerLive(request: Request, offer: LiveOffer): Response {
  offers.set(request, offer);
  // RFC 9110 section 15.5.22: what a client is told where the connection stays as it is.
  return new Response(null, { status: UPGRADE_REQUIRED, headers: { upgrade: "websocket" } });
}

/** The offer that was made to a request; null where it was refused or did not ask for one. */
export function takeLive(request: Request, { status }: Response): LiveOffer | null {
  const offer = offers.get(request);
  offers.delete(request);
  return status === UPGRADE_REQUIRED && offer ? offer : null;
}

/** Whether the request asks to become a WebSocket (RFC 6455 section 4.1). */
export function asksForWebSocket({ headers }: Request): boolean {
  return headers.get("upgrade")?.toLowerCase() === "websocket";
}

/**
 * Whether a WebSocket that the session cookie would speak for was asked for by a page of ours, or by no page at all:
 * browsers let every page open WebSockets to every server, and send the cookie along where the site is the same.
 */
export function isOwnPageWebSocket({ headers }: Request, origins: PageOrigins, hasCookie: boolean): boolean {
  return headers.has("authorization") || !hasCookie || mayOpenSocket(headers.get("origin"), origins);
}
