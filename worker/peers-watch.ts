import { type Stats, unwatchFile, watchFile } from "node:fs";
import type { PeersSource } from "./peers.ts";

/** How often the file is looked at. It is asked for its state: whoever replaces it may do so in any way. */
const INTERVAL_MS = 5_000;

/** Calls `changed` when the peers file has become another. Tokens that stand in the environment never change. */
export function watchPeers({ file }: PeersSource, changed: () => void, intervalMs: number = INTERVAL_MS): Disposable {
  if (file === null) return { [Symbol.dispose]: () => {} };
  const listener = (now: Stats, before: Stats) => {
    const same = now.mtimeMs === before.mtimeMs && now.size === before.size && now.ino === before.ino;
    if (!same) changed();
  };
  watchFile(file, { interval: intervalMs, persistent: false }, listener);
  return { [Symbol.dispose]: () => unwatchFile(file, listener) };
}
