import { userInfo } from "node:os";

const GIB = 2 ** 30;
/** Below the first it collects garbage until there is the second: nobody else ever does in a store of its own. */
const FREE_BYTES = { min: 2 * GIB, max: 6 * GIB };

/**
 * Settings of a daemon that only this worker talks to, before those of the machine's nix.conf: the worker may build by
 * value, evaluators may ask, nobody else may do anything.
 */
export function privateDaemonSettings({
  evaluatorUserName,
  minFreeBytes,
}: {
  readonly evaluatorUserName: string | null;
  /** `min-free` of the machine's nix.conf; 0 is none. */
  readonly minFreeBytes: number;
}): Record<string, string> {
  const worker = userInfo().username;
  const free = { "min-free": String(FREE_BYTES.min), "max-free": String(FREE_BYTES.max) };
  return {
    "trusted-users": worker,
    "allowed-users": [worker, ...(evaluatorUserName === null ? [] : [evaluatorUserName])].join(" "),
    ...(minFreeBytes === 0 && free),
  };
}
