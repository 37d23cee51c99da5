/** An IPv4 or IPv6 network. The addresses in it share the first `prefixLength` bits of `bytes`. */
export interface IpNetwork {
  /** 4 or 16 bytes. */
  readonly bytes: readonly number[];
  readonly prefixLength: number;
}

const IPV4_PART = /^(0|[1-9]\d{0,2})$/;
const IPV6_PART = /^[0-9a-fA-F]{1,4}$/;

/** The 4 or 16 bytes of an address; null when it is none. An IPv4 address mapped into IPv6 becomes the IPv4 address. */
export function parseIpAddress(text: string): readonly number[] | null {
  if (!text.includes(":")) return parseIpv4(text);
  const bytes = parseIpv6(text);
  if (!bytes) return null;
  const mapped = bytes.slice(0, 10).every((byte) => byte === 0) && bytes[10] === 0xff && bytes[11] === 0xff;
  return mapped ? bytes.slice(12) : bytes;
}

/** `address/prefix length`, or an address alone (a network of one). Null when it is neither. */
export function parseIpNetwork(text: string): IpNetwork | null {
  const [address = "", length, ...rest] = text.split("/");
  const bytes = parseIpAddress(address);
  if (!bytes || rest.length > 0) return null;
  const bits = bytes.length * 8;
  if (length === undefined) return { bytes, prefixLength: bits };
  if (!IPV4_PART.test(length)) return null;
  const mappedBits = address.includes(":") && bytes.length === 4 ? 96 : 0;
  const prefixLength = Number(length) - mappedBits;
  return prefixLength >= 0 && prefixLength <= bits ? { bytes, prefixLength } : null;
}

/** False also when `address` is no address. */
export function networkContains(network: IpNetwork, address: string): boolean {
  const bytes = parseIpAddress(address);
  if (bytes?.length !== network.bytes.length) return false;
  for (let bit = 0; bit < network.prefixLength; bit += 8) {
    const used = Math.min(8, network.prefixLength - bit);
    const mask = (0xff << (8 - used)) & 0xff;
    if ((((bytes[bit / 8] as number) ^ (network.bytes[bit / 8] as number)) & mask) !== 0) return false;
  }
  return true;
}

/** The canonical text: dotted decimal, or IPv6 as RFC 5952 writes it. */
export function formatIpAddress(bytes: readonly number[]): string {
  if (bytes.length === 4) return bytes.join(".");
  const host = Array.from({ length: 8 }, (_, i) =>
    (((bytes[2 * i] as number) << 8) | (bytes[2 * i + 1] as number)).toString(16),
  );
  const runs = [...`:${host.join(":")}:`.matchAll(/:0(?=:)(:0(?=:))+/g)];
  const longest = runs.reduce((best, run) => (run[0].length > best.length ? run[0] : best), "");
  const text = host.join(":");
  if (!longest) return text;
  const padded = `:${text}:`;
  const at = padded.indexOf(longest);
  const before = padded.slice(1, at);
  const after = padded.slice(at + longest.length + 1, -1);
  return `${before}::${after}`;
}

export function formatIpNetwork(network: IpNetwork): string {
  return `${formatIpAddress(network.bytes)}/${network.prefixLength}`;
}

function parseIpv4(text: string): number[] | null {
  const parts = text.split(".");
  if (parts.length !== 4 || !parts.every((part) => IPV4_PART.test(part))) return null;
  const bytes = parts.map(Number);
  return bytes.every((byte) => byte <= 255) ? bytes : null;
}

function parseIpv6(text: string): number[] | null {
  const halves = text.split("::");
  if (halves.length > 2) return null;
  const [head, tail] = halves.map((half, index) => ipv6Bytes(half, index === halves.length - 1));
  if (!head || tail === null) return null;
  if (tail === undefined) return head.length === 16 ? head : null;
  const zeros = 16 - head.length - tail.length;
  return zeros >= 2 ? [...head, ...new Array<number>(zeros).fill(0), ...tail] : null;
}

/** The bytes of the groups on one side of `::`. The very last group may be an IPv4 address. */
function ipv6Bytes(text: string, isLast: boolean): number[] | null {
  if (text === "") return [];
  const groups = text.split(":");
  const bytes: number[] = [];
  for (const [index, group] of groups.entries()) {
    if (IPV6_PART.test(group)) {
      const value = Number.parseInt(group, 16);
      bytes.push(value >> 8, value & 0xff);
      continue;
    }
    const ipv4 = isLast && index === groups.length - 1 ? parseIpv4(group) : null;
    if (!ipv4) return null;
    bytes.push(...ipv4);
  }
  return bytes.length <= 16 ? bytes : null;
}
