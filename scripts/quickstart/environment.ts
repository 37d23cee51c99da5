import { delimiter } from "node:path";

/**
 * What the programs that we start inherit: nothing of the caller's Gradient or Nix settings, which are meant for
 * another server or another store.
 */
export function cleanEnvironment(environment: NodeJS.ProcessEnv = process.env): Record<string, string> {
  const kept: Record<string, string> = {};
  for (const [name, value] of Object.entries(environment)) {
    if (value === undefined || /^(?:GRADIENT_|npm_|INIT_CWD$|NODE_OPTIONS$)/.test(name)) continue;
    if (name.startsWith("NIX_") && name !== "NIX_SSL_CERT_FILE") continue;
    kept[name] = value;
  }
  kept.PATH = searchPath(environment);
  return kept;
}

/** Where Nix's own installer puts its commands: a shell that was open before does not know them. */
const NIX_FOLDERS = ["/nix/var/nix/profiles/default/bin", "/run/current-system/sw/bin"];

function searchPath({ PATH = "/usr/local/bin:/usr/bin:/bin", HOME }: NodeJS.ProcessEnv): string {
  const own = HOME ? [`${HOME}/.nix-profile/bin`] : [];
  return [PATH, ...own, ...NIX_FOLDERS].join(delimiter);
}
