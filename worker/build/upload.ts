import type { DaemonOptions } from "#core/nix/daemon/options.ts";
import type { DaemonPathInfo } from "#core/nix/daemon/path-info.ts";
import type { StorePath } from "#core/nix/store-path.ts";
import type { BuildResult } from "#core/protocol/worker-messages.ts";
import type { DaemonConnection } from "../daemon/connection.ts";
import type { DaemonPool } from "../daemon/pool.ts";
import type { AttemptLink, Upload } from "../link.ts";
import type { Signer } from "../signing-key.ts";
import { AT_ONCE_BYTES_MAX, LentConnection, readUpload, uploadOf } from "../store/push-path.ts";
import { inReferenceOrder } from "../store/reference-order.ts";
import { BuildFailure } from "./failure.ts";

/**
 * The outputs of a build as they are sent, those first that others refer to. Whatever else the outputs refer to are
 * inputs, which the server has. Throws when the store does not know an output: without its references it would be
 * offered broken.
 *
 * `needsConnection` is false when all of them are in memory, which small ones are: the connection may serve the next
 * build while they are on their way.
 */
export async function uploadsOf(
  connection: DaemonConnection,
  { outputs }: Pick<BuildResult, "outputs">,
  link: AttemptLink,
  deps: { readonly pool: DaemonPool; readonly settings: DaemonOptions; readonly signer: Signer | null },
): Promise<{ readonly uploads: readonly Upload[]; readonly needsConnection: boolean }> {
  const infos = new Map<StorePath, DaemonPathInfo>();
  for (const { path } of outputs) infos.set(path, await requirePathInfo(connection, path));
  const lent = new LentConnection(connection);
  const references = new Map(Array.from(infos, ([path, info]) => [path, info.references]));
  const size = Array.from(infos.values()).reduce((sum, { narSize }) => sum + narSize, 0);
  const needsConnection = size > AT_ONCE_BYTES_MAX;
  const uploads: Upload[] = [];
  await inReferenceOrder(references, 1, async (path) => {
    const info = infos.get(path) as DaemonPathInfo;
    const upload = await uploadOf(info, { ...deps, lent, target: "output", link });
    uploads.push(needsConnection ? upload : await readUpload(upload));
  });
  return { uploads, needsConnection };
}

async function requirePathInfo(connection: DaemonConnection, path: StorePath): Promise<DaemonPathInfo> {
  const info = await connection.queryPathInfo(path);
  if (info) return info;
  throw new BuildFailure("transient", `the worker's store does not know the output ${path} it has built`);
}
