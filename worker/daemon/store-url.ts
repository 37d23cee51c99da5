import { join } from "node:path";
import type { StorePath } from "#core/nix/store-path.ts";

/** Where a nix-daemon listens, and where the files of its store are. */
export interface DaemonStore {
  readonly socketPath: string;
  /** Prefix of the store's files; empty unless the store lives in a folder of its own (a chroot store). */
  readonly root: string;
}

export const DEFAULT_SOCKET_PATH = "/nix/var/nix/daemon-socket/socket";

/** The value does not name a nix-daemon. The message says what does. */
export class StoreUrlError extends Error {
  override readonly name = "StoreUrlError";
}

/**
 * Reads a value of NIX_REMOTE: empty, `auto` or `daemon` for the machine's daemon, `unix://SOCKET` for another one,
 * `unix://SOCKET?root=DIR` when that one keeps its store below DIR. Percent escapes are decoded. Throws
 * `StoreUrlError`.
 */
export function parseStoreUrl(value: string, defaultSocketPath: string = DEFAULT_SOCKET_PATH): DaemonStore {
  if (value === "" || value === "auto" || value === "daemon") return { socketPath: defaultSocketPath, root: "" };

  const match = /^unix:\/\/([^?#]*)(?:\?([^#]*))?$/.exec(value);
  if (!match) refuse(value, "use `daemon`, `unix://SOCKET` or `unix://SOCKET?root=DIR`: the worker needs a nix-daemon");
  const socketPath = match[1] === "" ? defaultSocketPath : decode(value, match[1] as string);
  let root = "";
  for (const parameter of (match[2] ?? "").split("&").filter((text) => text !== "")) {
    const [name, text = ""] = parameter.split(/=(.*)/s);
    if (name !== "root") refuse(value, `the parameter ${name} is not known here, only root is`);
    root = decode(value, text);
  }
  if (!socketPath.startsWith("/")) refuse(value, "the socket's path must be absolute");
  if (root !== "" && !root.startsWith("/")) refuse(value, "root must be absolute");
  return { socketPath, root: root.replace(/\/+$/, "") };
}

/** Where the files of a store path are on this machine. */
export function realPath(store: DaemonStore, storePath: StorePath): string {
  return store.root === "" ? storePath : join(store.root, storePath);
}

function decode(value: string, text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    refuse(value, "a percent escape is broken");
  }
}

function refuse(value: string, reason: string): never {
  throw new StoreUrlError(`store URL ${JSON.stringify(value)}: ${reason}`);
}
