import { createHash } from "node:crypto";
import { chmod, chown, mkdtemp, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { EvaluationError } from "./errors.ts";
import {
  type ProcessOptions,
  ProcessStartError,
  type ProcessUser,
  type RunningProcess,
  startProcess,
} from "./process.ts";

export interface SshAgentOptions {
  /** The whole environment of the programs: PATH finds them. */
  readonly variables: Readonly<Record<string, string>>;
  /** The user whose programs may use the key. Null: the worker's own. */
  readonly user: ProcessUser | null;
}

/** A key that may be used while this is held. */
export interface HeldKey extends AsyncDisposable {
  /** Of an agent that signs with the key and gives it to nobody. */
  readonly socketPath: string;
}

interface Agent {
  readonly folder: string;
  readonly socketPath: string;
  readonly process: RunningProcess;
  holders: number;
}

/**
 * The agent ends with the worker, however that ends: then the pipe is closed that the shell reads. The agent's own end
 * is the shell's too.
 */
const KEEPER = `(ssh-agent -D -a "$0"; kill -9 $$) & read -r line; kill -9 0`;
const START_MS_MAX = 10_000;
const POLL_MS = 5;
const OUTPUT_BYTES_MAX = 64 * 1024;

/**
 * Lets git and Nix use private keys that they cannot read: each is in the memory of an `ssh-agent` for as long as
 * somebody holds it, never in a file.
 */
export class SshAgents {
  readonly #agents = new Map<string, Promise<Agent>>();
  readonly #folderPrefix: string;

  /** Folders of sockets begin like this: not below the data folder, where their paths are too long (unix(7)). */
  constructor(folderPrefix: string = join(tmpdir(), "gradient-ssh-")) {
    this.#folderPrefix = folderPrefix;
  }

  /** Throws `EvaluationError` when the agent cannot be started or does not take the key. */
  async hold(secretKey: string, options: SshAgentOptions): Promise<HeldKey> {
    const name = createHash("sha256")
      .update(JSON.stringify([secretKey, options.user]))
      .digest("hex");
    const starting = this.#agents.get(name) ?? startAgent(secretKey, this.#folderPrefix, options);
    this.#agents.set(name, starting);
    let agent: Agent;
    try {
      agent = await starting;
    } catch (error) {
      if (this.#agents.get(name) === starting) this.#agents.delete(name);
      throw error;
    }
    agent.holders++;
    let isHeld = true;
    return {
      socketPath: agent.socketPath,
      [Symbol.asyncDispose]: async () => {
        if (!isHeld) return;
        isHeld = false;
        if (--agent.holders > 0) return;
        if (this.#agents.get(name) === starting) this.#agents.delete(name);
        await endAgent(agent);
      },
    };
  }
}

async function startAgent(secretKey: string, folderPrefix: string, options: SshAgentOptions): Promise<Agent> {
  const folder = await mkdtemp(folderPrefix);
  const socketPath = join(folder, "agent");
  try {
    // Evaluators of other organizations are the same user, in another group.
    if (options.user) {
      await chown(folder, (await stat(folder)).uid, options.user.gid);
      await chmod(folder, 0o770);
    }
    const process = await start("/bin/sh", ["-c", KEEPER, socketPath], folder, options);
    const agent = { folder, socketPath, process, holders: 0 };
    try {
      await addKey(secretKey, agent, options);
      return agent;
    } catch (error) {
      await endAgent(agent);
      throw error;
    }
  } catch (error) {
    await rm(folder, { recursive: true, force: true });
    throw error;
  }
}

/** Until the agent listens `ssh-add` ends with 2: it cannot reach it. */
async function addKey(
  secretKey: string,
  { folder, socketPath, process }: Agent,
  options: SshAgentOptions,
): Promise<void> {
  const deadline = performance.now() + START_MS_MAX;
  let hasEnded = false;
  void process.ended.then(() => {
    hasEnded = true;
  });
  for (;;) {
    const adding = await start("ssh-add", ["-q", "-"], folder, options, { SSH_AUTH_SOCK: socketPath });
    adding.input?.end(secretKey);
    const { code } = await adding.ended;
    if (code === 0) return;
    if (code !== 2 || hasEnded || performance.now() > deadline) {
      const words = code === 2 ? "the agent that keeps it does not start" : "ssh-add does not take it";
      throw new EvaluationError("evaluator_unusable", `the organization's SSH key cannot be used: ${words}`);
    }
    await sleep(POLL_MS);
  }
}

async function endAgent({ process, folder }: Agent): Promise<void> {
  process.stop("aborted");
  await process.ended;
  await rm(folder, { recursive: true, force: true });
}

async function start(
  command: string,
  args: readonly string[],
  folder: string,
  { variables, user }: SshAgentOptions,
  more: Readonly<Record<string, string>> = {},
): Promise<RunningProcess> {
  const options: ProcessOptions = {
    command,
    args,
    environment: { ...variables, HOME: folder, SSH_ASKPASS_REQUIRE: "never", ...more },
    folder,
    user,
    hasInput: true,
    timeoutMs: null,
    stdoutBytesMax: null,
    stderrBytesMax: OUTPUT_BYTES_MAX,
  };
  try {
    return await startProcess(options);
  } catch (error) {
    if (!(error instanceof ProcessStartError)) throw error;
    throw new EvaluationError("evaluator_unusable", `${error.message}: install OpenSSH's client on the worker`, {
      cause: error,
    });
  }
}
