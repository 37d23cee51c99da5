import type { WantedCache } from "./decide.ts";

/**
 * What Nix sends to private caches: the API key, and only to the machine that the agent asks with that key anyway. The
 * host's own lines follow; the first that fits a machine counts.
 */
export function netrcText(
  caches: readonly WantedCache[],
  { apiKey, server, own }: { readonly apiKey: string; readonly server: string; readonly own: string },
): string {
  const machine = new URL(server).hostname;
  const isNeeded = caches.some(
    ({ url, isPrivate }) => isPrivate && URL.canParse(url) && new URL(url).hostname === machine,
  );
  const line = isNeeded ? `machine ${machine.replace(/^\[|\]$/g, "")} login gradient-deploy password ${apiKey}\n` : "";
  return line + own;
}
