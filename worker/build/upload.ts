import type { DaemonOptions } from "#core/nix/daemon/options.ts";
import type { DaemonPathInfo } from "#core/nix/daemon/path-info.ts";
import type { StorePath } from "#core/nix/store-path.ts";
import type { BuildResult } from "#core/protocol/worker-messages.ts";
import type { DaemonConnection } from "../daemon/connection.ts";
import type { DaemonPool } from "../daemon/pool.ts";
import type { AttemptLink, Upload } from "../link.ts";
import type { Signer } from "../signing-key.ts";
import { LentConnection, uploadOf } from "../store/push-path.ts";
import { inReferenceOrder } from "../store/reference-order.ts";
import { BuildFailure } from "./failure.ts";

/**
 * Sends the outputs of a build, those first that others refer to, and its result. Whatever else the outputs refer to
 * are inputs, which the server has. Throws when the store does not know an output: without its references it would be
 * offered broken.
 */
export async function deliverBuild(
  connection: DaemonConnection,
  result: BuildResult,
  link: AttemptLink,
  deps: { readonly pool: DaemonPool; readonly settings: DaemonOptions; readonly signer: Signer | null },
): Promise<void> {
  const infos = new Map<StorePath, DaemonPathInfo>();
  for (const { path } of result.outputs) infos.set(path, await requirePathInfo(connection, path));
  const lent = new LentConnection(connection);
  const references = new Map(Array.from(infos, ([path, info]) => [path, info.references]));
  const uploads: Upload[] = [];
  await inReferenceOrder(references, 1, async (path) => {
    const info = infos.get(path) as DaemonPathInfo;
    uploads.push(await uploadOf(info, { ...deps, lent, target: "output", link }));
  });
  await link.deliver(uploads, result);
}

async function requirePathInfo(connection: DaemonConnection, path: StorePath): Promise<DaemonPathInfo> {
  const info = await connection.queryPathInfo(path);
  if (info) return info;
  throw new BuildFailure("transient", `the worker's store does not know the output ${path} it has built`);
}
