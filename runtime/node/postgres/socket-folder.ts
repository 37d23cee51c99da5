import { chmod, chown, mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Account } from "./account.ts";

/** `sun_path` of unix(7), less its closing zero. */
const SOCKET_PATH_BYTES_MAX = 107;
/** Names the socket only (`.s.PGSQL.5432`): nothing listens on TCP. */
export const SOCKET_PORT = 5432;

export interface SocketFolder {
  readonly path: string;
  remove(): Promise<void>;
}

/**
 * A folder that only PostgreSQL and we may enter: in `home`, or below the temporary folder where that path is too
 * long.
 */
export async function makeSocketFolder(home: string, account: Account): Promise<SocketFolder> {
  const near = join(home, "socket");
  const fits = Buffer.byteLength(join(near, `.s.PGSQL.${SOCKET_PORT}`)) <= SOCKET_PATH_BYTES_MAX;
  const path = fits ? near : await mkdtemp(join(tmpdir(), "gradient-"));
  if (fits) {
    await rm(path, { recursive: true, force: true });
    await mkdir(path, { mode: 0o700 });
  }
  await chmod(path, 0o700);
  if (account.kind === "user") await chown(path, account.uid, account.gid);
  return { path, remove: () => rm(path, { recursive: true, force: true }) };
}
