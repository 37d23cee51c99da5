import type { WantedCache } from "./decide.ts";

/** What Nix sends to private caches, or why the API key would get to somebody whom it is not for. */
export type Netrc = { readonly ok: true; readonly text: string } | { readonly ok: false; readonly reason: string };

/**
 * The API key, only for the server that the agent asks with that key anyway; the host's own lines follow, and the first
 * that fits a machine counts. A netrc file knows machines, without scheme and port: where Nix would send the key to the
 * same machine by another way, such as plain http beside https, there is no file.
 */
export function netrcFor(
  caches: readonly WantedCache[],
  { apiKey, server, own }: { readonly apiKey: string; readonly server: string; readonly own: string },
): Netrc {
  const { hostname: machine, origin } = new URL(server);
  const here = caches.filter(({ url }) => URL.canParse(url) && new URL(url).hostname === machine);
  if (!here.some(({ isPrivate }) => isPrivate)) return { ok: true, text: own };
  const elsewhere = here.find(({ url }) => new URL(url).origin !== origin);
  if (elsewhere) {
    const reason =
      `the cache ${elsewhere.name} is at ${elsewhere.url}, but the server is asked at ${origin}: the API key would ` +
      "go there, too; let GRADIENT_SERVE_URL of the server and GRADIENT_DEPLOY_SERVER of this host be the same address";
    return { ok: false, reason };
  }
  const line = `machine ${machine.replace(/^\[|\]$/g, "")} login gradient-deploy password ${apiKey}\n`;
  return { ok: true, text: line + own };
}
