import { formatIpAddress, type IpNetwork, networkContains, parseIpAddress } from "../domain/ip-address.ts";

/** Forwarded addresses looked at from the right; a longer chain of proxies is nobody's. */
const FORWARDED_MAX = 32;

export interface ClientAddress {
  /** Canonical; `0.0.0.0` where the runtime names none. */
  readonly address: string;
  /** It is that of a trusted proxy, which asks for itself or has named no client. */
  readonly trusted: boolean;
}

/**
 * The client's address. The peer's own, unless the peer is a trusted proxy: then the first address from the right of
 * `X-Forwarded-For` that is not a trusted proxy too, or the leftmost when all are. What is no address is skipped.
 * A null peer (a Unix socket, which only this machine reaches) counts as 127.0.0.1.
 */
export function findClient(
  peer: string | null,
  forwardedFor: string | null,
  trustedProxies: readonly IpNetwork[],
): ClientAddress {
  let address = canonical(peer ?? "127.0.0.1") ?? "0.0.0.0";
  if (!isTrusted(address, trustedProxies)) return { address, trusted: false };
  for (const entry of (forwardedFor ?? "").split(",").slice(-FORWARDED_MAX).reverse()) {
    const named = canonical(entry.trim());
    if (!named) continue;
    address = named;
    if (!isTrusted(address, trustedProxies)) return { address, trusted: false };
  }
  return { address, trusted: true };
}

/** As `findClient`: the address alone. */
export function clientAddress(
  peer: string | null,
  forwardedFor: string | null,
  trustedProxies: readonly IpNetwork[],
): string {
  return findClient(peer, forwardedFor, trustedProxies).address;
}

function canonical(text: string): string | null {
  const bytes = parseIpAddress(text.split("%", 1)[0] as string);
  return bytes && formatIpAddress(bytes);
}

function isTrusted(address: string, networks: readonly IpNetwork[]): boolean {
  return networks.some((network) => networkContains(network, address));
}
