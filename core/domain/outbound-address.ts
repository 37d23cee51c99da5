import { type IpNetwork, networkContains, parseIpNetwork } from "./ip-address.ts";

/** What the operator says of addresses that the server would not go to by itself, or would. */
export interface OutboundRules {
  /** Reachable whatever else is said of them. */
  readonly allowed: readonly IpNetwork[];
  /** Whether networks that are nobody's on the internet may be reached: 10.0.0.0/8 and the like. */
  readonly privateAllowed: boolean;
}

/** The machine itself, its link, "any address", groups and what is reserved: where its own services listen. */
const LOCAL = networks(
  "0.0.0.0/8",
  "127.0.0.0/8",
  "169.254.0.0/16",
  "224.0.0.0/4",
  "240.0.0.0/4",
  "::/128",
  "::1/128",
  "fe80::/10",
  "ff00::/8",
);
/** RFC 1918, RFC 6598, RFC 4193. */
const PRIVATE = networks("10.0.0.0/8", "100.64.0.0/10", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7");

/** Whether a connection may be opened to this address. False also when it is no address. */
export function mayConnectTo(address: string, { allowed, privateAllowed }: OutboundRules): boolean {
  const isIn = (list: readonly IpNetwork[]) => list.some((network) => networkContains(network, address));
  if (isIn(allowed)) return true;
  if (isIn(LOCAL) || (!privateAllowed && isIn(PRIVATE))) return false;
  return isIn(EVERYTHING);
}

const EVERYTHING = networks("0.0.0.0/0", "::/0");

function networks(...texts: readonly string[]): readonly IpNetwork[] {
  return texts.map((text) => parseIpNetwork(text) as IpNetwork);
}
