/** Origins of pages whose scripts may use the API with the visitor's cookie. */
export interface PageOrigins {
  /** Under which clients reach the API. */
  readonly serveUrl: string;
  /** Of further pages of ours, such as the UI where it has an address of its own. */
  readonly pageOrigins?: readonly string[] | undefined;
}

/** False for a malformed origin, and for `null`, which is that of every sandboxed page. */
export function isOwnPage(origin: string, { serveUrl, pageOrigins = [] }: PageOrigins): boolean {
  return origin === new URL(serveUrl).origin || pageOrigins.includes(origin);
}

/**
 * Whether a WebSocket may be opened: not by a page of others, which would have the visitor's cookie and address with
 * it, and no rule of browsers in its way (RFC 6455 section 10.2). Programs send no `Origin`.
 */
export function mayOpenSocket(origin: string | null | undefined, origins: PageOrigins): boolean {
  return origin === null || origin === undefined || isOwnPage(origin, origins);
}
