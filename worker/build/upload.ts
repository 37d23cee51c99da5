import type { DaemonOptions } from "#core/nix/daemon/options.ts";
import type { DaemonPathInfo } from "#core/nix/daemon/path-info.ts";
import type { StorePath } from "#core/nix/store-path.ts";
import type { DaemonConnection } from "../daemon/connection.ts";
import type { DaemonPool } from "../daemon/pool.ts";
import type { AttemptLink } from "../link.ts";
import type { Signer } from "../signing-key.ts";
import { LentConnection, pushPath } from "../store/push-path.ts";
import { inReferenceOrder } from "../store/reference-order.ts";
import { BuildFailure } from "./failure.ts";

const CONCURRENT_UPLOADS = 2;

/**
 * Sends the outputs of a build, each after those it refers to. Whatever else they refer to are inputs, which the server
 * has. Throws when the store does not know an output: without its references it would be offered broken.
 */
export async function uploadOutputs(
  connection: DaemonConnection,
  outputs: readonly StorePath[],
  link: AttemptLink,
  deps: { readonly pool: DaemonPool; readonly settings: DaemonOptions; readonly signer: Signer | null },
): Promise<void> {
  const infos = new Map<StorePath, DaemonPathInfo>();
  for (const path of new Set(outputs)) {
    const info = await connection.queryPathInfo(path);
    if (!info) throw new BuildFailure("transient", `the worker's store does not know the output ${path} it has built`);
    infos.set(path, info);
  }
  const lent = new LentConnection(connection);
  const references = new Map(Array.from(infos, ([path, info]) => [path, info.references]));
  await inReferenceOrder(references, CONCURRENT_UPLOADS, (path) =>
    pushPath(infos.get(path) as DaemonPathInfo, { ...deps, lent, target: "output", link }),
  );
}
