/**
 * How this server is called inside the names of its keys: the host of the serve URL. An IPv6 address loses its brackets
 * and has dashes for colons, since a colon ends the name of a key.
 */
export function serverName(serveUrl: string): string {
  return new URL(serveUrl).hostname.replace(/^\[|\]$/g, "").replaceAll(":", "-");
}
