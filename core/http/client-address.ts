import { formatIpAddress, type IpNetwork, networkContains, parseIpAddress } from "../domain/ip-address.ts";

/** Forwarded addresses looked at from the right; a longer chain of proxies is nobody's. */
const FORWARDED_MAX = 32;

const IPV4_WITH_PORT = /^([\d.]{7,15}):\d{1,5}$/;
const IPV6_IN_BRACKETS = /^\[([^[\]]*:[^[\]]*)\](?::\d{1,5})?$/;

/** The bytes of an IPv6 address that name a customer: he has all addresses below them. */
const IPV6_NETWORK_BYTES = 8;

export interface ClientAddress {
  /** Canonical; `0.0.0.0` where the runtime names none. */
  readonly address: string;
  /** What has limits of its own: an IPv4 address, or the first 64 bits of an IPv6 address. */
  readonly network: string;
  /** It is that of a trusted proxy, which asks for itself or has named no client. An unreadable name is one. */
  readonly trusted: boolean;
}

/**
 * The client's address. The peer's own, unless the peer is a trusted proxy: then the first address from the right of
 * `X-Forwarded-For` that is not a trusted proxy too, or the leftmost when all are; a port behind an address is left
 * out. What is no address ends the walk: who wrote what stands left of it is not known, so the address of the proxy
 * that passed it on counts, with the limits of a client. A null peer (a Unix socket, which only this machine reaches)
 * counts as 127.0.0.1.
 */
export function findClient(
  peer: string | null,
  forwardedFor: string | null,
  trustedProxies: readonly IpNetwork[],
): ClientAddress {
  let address = canonical(peer ?? "127.0.0.1") ?? "0.0.0.0";
  let trusted = isTrusted(address, trustedProxies);
  const entries = trusted ? (forwardedFor ?? "").split(",").slice(-FORWARDED_MAX).reverse() : [];
  for (const entry of entries) {
    const text = entry.trim();
    const named = canonical(withoutPort(text));
    if (!named) {
      trusted = trusted && text === "";
      break;
    }
    address = named;
    trusted = isTrusted(address, trustedProxies);
    if (!trusted) break;
  }
  return { address, network: networkOf(address), trusted };
}

/** As `findClient`: the address alone. */
export function clientAddress(
  peer: string | null,
  forwardedFor: string | null,
  trustedProxies: readonly IpNetwork[],
): string {
  return findClient(peer, forwardedFor, trustedProxies).address;
}

function networkOf(address: string): string {
  if (!address.includes(":")) return address;
  return parseIpAddress(address)?.slice(0, IPV6_NETWORK_BYTES).join(".") ?? address;
}

/** Some proxies write `192.0.2.1:4711`, `[2001:db8::1]` or `[2001:db8::1]:4711`. */
function withoutPort(entry: string): string {
  return (IPV4_WITH_PORT.exec(entry) ?? IPV6_IN_BRACKETS.exec(entry))?.[1] ?? entry;
}

function canonical(text: string): string | null {
  const bytes = parseIpAddress(text.split("%", 1)[0] as string);
  return bytes && formatIpAddress(bytes);
}

function isTrusted(address: string, networks: readonly IpNetwork[]): boolean {
  return networks.some((network) => networkContains(network, address));
}
