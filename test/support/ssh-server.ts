import { execFile, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { chmod, mkdir, readFile, writeFile } from "node:fs/promises";
import { createConnection, createServer } from "node:net";
import { userInfo } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";

const run = promisify(execFile);
const SSHD = "/usr/sbin/sshd";

/** Whether this machine can run an ssh server, or what it lacks. */
export function sshServerAvailable(): { readonly ok: true } | { readonly ok: false; readonly reason: string } {
  if (!existsSync(SSHD)) return { ok: false, reason: "there is no sshd: apt-get install openssh-server" };
  return { ok: true };
}

export interface SshServer extends AsyncDisposable {
  /** `ssh://user@127.0.0.1:port`; absolute paths of repositories come behind it. */
  readonly url: string;
  /** The line of a `known_hosts` file. */
  readonly knownHost: string;
}

/** OpenSSH on the loopback, for the current user and the holder of one key. */
export async function withSshServer(folder: string, authorizedKey: string): Promise<SshServer> {
  await mkdir(folder, { recursive: true });
  const port = await freePort();
  const hostKey = join(folder, "host-key");
  await run("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-f", hostKey]);
  const publicKey = (await readFile(`${hostKey}.pub`, "utf8")).split(" ").slice(0, 2).join(" ");
  await writeFile(join(folder, "authorized_keys"), `${authorizedKey}\n`);
  await chmod(join(folder, "authorized_keys"), 0o600);
  // sshd of root wants this folder for the processes that it trusts least.
  if (userInfo().uid === 0) await mkdir("/run/sshd", { recursive: true, mode: 0o755 });
  const config = join(folder, "sshd_config");
  await writeFile(
    config,
    [
      `ListenAddress 127.0.0.1:${port}`,
      `HostKey ${hostKey}`,
      `AuthorizedKeysFile ${join(folder, "authorized_keys")}`,
      "PasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin prohibit-password",
      "UsePAM no\nStrictModes no\nPidFile none",
    ].join("\n"),
  );
  const child = spawn(SSHD, ["-D", "-e", "-f", config], { stdio: "ignore" });
  const ended = new Promise((resolve) => child.once("exit", resolve));
  await listening(port);
  return {
    url: `ssh://${userInfo().username}@127.0.0.1:${port}`,
    knownHost: `[127.0.0.1]:${port} ${publicKey}`,
    async [Symbol.asyncDispose]() {
      child.kill();
      await ended;
    },
  };
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  if (address === null || typeof address === "string") throw new Error("no port");
  return address.port;
}

async function listening(port: number): Promise<void> {
  for (let tries = 0; tries < 500; tries++) {
    const connected = await new Promise<boolean>((resolve) => {
      const socket = createConnection(port, "127.0.0.1", () => {
        socket.destroy();
        resolve(true);
      });
      socket.on("error", () => resolve(false));
    });
    if (connected) return;
    await sleep(20);
  }
  throw new Error("sshd does not listen");
}
