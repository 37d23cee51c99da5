import { isIP } from "node:net";
import type { OutboundRules } from "#core/domain/outbound-address.ts";
import type { RepositoryUrl } from "#core/nix/flake-ref.ts";
import { reachableAddresses } from "./reachable-address.ts";

/** What git is told so that it connects to the addresses that were checked, and to no others. */
export interface GitTarget {
  readonly url: string;
  /** Before git's command. */
  readonly gitArgs: readonly string[];
  /** Of ssh, each the value of an `-o`. */
  readonly sshOptions: readonly string[];
}

const HTTP_PORTS: Readonly<Record<string, string>> = { "http:": "80", "https:": "443" };

/** Looks the host up and checks its addresses. Throws `AddressRefusedError`. */
export async function gitTarget({ kind, url }: RepositoryUrl, rules: OutboundRules): Promise<GitTarget> {
  switch (kind) {
    case "file":
      return { url, gitArgs: [], sshOptions: [] };
    case "http":
    case "https":
      return await httpTarget(new URL(url), rules);
    case "ssh":
    case "git":
      return await sshTarget(url, rules);
  }
}

/** A redirect would lead to an address that nobody has checked. */
const NO_REDIRECTS = ["-c", "http.followRedirects=false"];

async function httpTarget(url: URL, rules: OutboundRules): Promise<GitTarget> {
  // What curl is given must be the host that was looked up, letter by letter; curl drops a final dot by itself.
  if (url.hostname.endsWith(".")) url.hostname = url.hostname.slice(0, -1);
  const host = url.hostname.replace(/^\[|\]$/g, "");
  const addresses = await reachableAddresses(host, rules);
  if (isIP(host) !== 0) return { url: url.href, gitArgs: NO_REDIRECTS, sshOptions: [] };
  const port = url.port || HTTP_PORTS[url.protocol];
  // CURLOPT_RESOLVE(3): addresses of version 6 in brackets.
  const list = addresses.map((address) => (isIP(address) === 6 ? `[${address}]` : address)).join(",");
  const pinned = ["-c", `http.curloptResolve=${host}:${port}:${list}`];
  return { url: url.href, gitArgs: [...NO_REDIRECTS, ...pinned], sshOptions: [] };
}

async function sshTarget(url: string, rules: OutboundRules): Promise<GitTarget> {
  const { host, port } = sshPlace(url);
  const [address] = await reachableAddresses(host, rules);
  // Its key is known under the name, not under the address of the moment.
  const alias = port === "" || port === "22" ? host : `[${host}]:${port}`;
  return { url, gitArgs: [], sshOptions: [`HostName=${address}`, `HostKeyAlias=${alias}`] };
}

/** Of `ssh://user@host:port/path` and `user@host:path`, both as `parseRepositoryUrl` lets them through. */
function sshPlace(url: string): { readonly host: string; readonly port: string } {
  const authority = /^ssh:\/\/([^/?]*)/.exec(url)?.[1] ?? /^[^:/@]+@(?:\[[^\]]*\]|[^:/@]+)/.exec(url)?.[0] ?? "";
  const place = authority.slice(authority.lastIndexOf("@") + 1);
  const [, host = "", port = ""] = /^(.*?)(?::(\d{1,5}))?$/.exec(place) ?? [];
  return { host: host.replace(/^\[|\]$/g, ""), port };
}
