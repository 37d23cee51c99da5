import { type ChildProcess, spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { type AddressInfo, createServer } from "node:net";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { runCommand } from "#scripts/quickstart/commands.ts";
import { nixAvailable } from "./support/nix.ts";
import { withTemporaryFolder } from "./support/temporary-folder.ts";

const ROOT = dirname(dirname(fileURLToPath(import.meta.url)));
const nix = nixAvailable();

/** One run of the command, as a person starts it, without a terminal. */
class Quickstart implements AsyncDisposable {
  readonly #child: ChildProcess;
  readonly #ended: Promise<number | null>;
  stdout = "";
  stderr = "";

  constructor(args: readonly string[]) {
    this.#child = spawn(process.execPath, [join(ROOT, "scripts", "quickstart.ts"), ...args], {
      cwd: ROOT,
      stdio: ["ignore", "pipe", "pipe"],
    });
    this.#child.stdout?.setEncoding("utf8").on("data", (text: string) => {
      this.stdout += text;
    });
    this.#child.stderr?.setEncoding("utf8").on("data", (text: string) => {
      this.stderr += text;
    });
    this.#ended = new Promise((resolve) => this.#child.once("close", resolve));
  }

  /** The exit code. */
  ended(): Promise<number | null> {
    return this.#ended;
  }

  signal(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }

  async says(words: string): Promise<void> {
    await expect.poll(() => this.stdout + this.stderr, { timeout: 50_000, interval: 50 }).toContain(words);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child.exitCode !== null) return;
    this.signal("SIGINT");
    await this.#ended;
  }
}

interface Place extends AsyncDisposable {
  readonly folder: string;
  readonly data: string;
  readonly args: readonly string[];
}

async function withPlace(): Promise<Place> {
  const folder = await withTemporaryFolder();
  const data = join(folder.path, "data");
  const args = ["--data", data, "--port", String(await freePort()), "--yes"];
  return { folder: folder.path, data, args, [Symbol.asyncDispose]: () => folder[Symbol.asyncDispose]() };
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** A git repository with a flake of these packages: name, then a shell script. */
async function makeFlake(folder: string, scripts: Readonly<Record<string, string>>): Promise<string> {
  const packages = Object.entries(scripts).map(
    ([name, script]) =>
      `${name} = derivation { name = "${name}"; inherit system; builder = "/bin/sh"; args = [ "-c" ''${script}'' ]; };`,
  );
  const system = process.arch === "arm64" ? "aarch64-linux" : "x86_64-linux";
  await mkdir(folder);
  await writeFile(
    join(folder, "flake.nix"),
    `{ outputs = { self }: { packages.${system} = let system = "${system}"; in { ${packages.join("\n")} }; }; }\n`,
  );
  const environment = { PATH: process.env.PATH ?? "", HOME: folder };
  for (const args of [
    ["init", "-q"],
    ["add", "flake.nix"],
    ["commit", "-q", "-m", "one"],
  ]) {
    const author = ["-c", "user.name=test", "-c", "user.email=test@localhost"];
    const { code, stderr } = await runCommand("git", [...author, ...args], { environment, folder });
    if (code !== 0) throw new Error(stderr);
  }
  return folder;
}

/** Processes that were given the folder, by an argument or by their environment. */
async function processesOf(folder: string): Promise<string[]> {
  const found: string[] = [];
  for (const pid of await readdir("/proc")) {
    if (!/^\d+$/.test(pid) || Number(pid) === process.pid) continue;
    const read = (name: string) => readFile(`/proc/${pid}/${name}`, "utf8").catch(() => "");
    const command = await read("cmdline");
    if (`${command}\0${await read("environ")}`.includes(folder)) found.push(command.replaceAll("\0", " "));
  }
  return found;
}

test.skipIf(!nix.ok)(
  "one command builds the example and proves it; the next one goes on from its data",
  { timeout: 120_000 },
  async () => {
    await using place = await withPlace();

    await using first = new Quickstart([...place.args, "--once", "--json"]);
    expect(await first.ended(), first.stderr).toBe(0);
    const summary = JSON.parse(first.stdout) as Record<string, unknown>;
    expect(summary).toMatchObject({ status: "Completed", login: { username: "owner" } });
    expect(Object.keys(summary)).toEqual(["server", "evaluation", "status", "builds", "cache", "login", "apiKey"]);
    expect(first.stderr).toMatch(/an empty store took this and 2 more that it refers to/);

    await using second = new Quickstart(place.args);
    await second.says("Running until Ctrl-C");
    expect(second.stdout).toMatch(/^there +letters-1.0/m);
    expect(second.stdout).toContain(summary.apiKey);
    const answer = await fetch(`${summary.server}/api/v1/user`, {
      headers: { authorization: `Bearer ${summary.apiKey}` },
    });
    expect(await answer.json()).toMatchObject({ error: false, message: { username: "owner" } });

    second.signal("SIGINT");
    expect(await second.ended()).toBe(0);
    expect(await processesOf(place.data)).toEqual([]);
  },
);

test.skipIf(!nix.ok)(
  "a failing build is shown with its last words and is the exit code; Ctrl-C ends a build and all else",
  { timeout: 120_000 },
  async () => {
    await using place = await withPlace();
    const failing = await makeFlake(join(place.folder, "failing"), {
      // The machine's store may have kept what an earlier test built.
      good: `echo ${randomUUID()} > $out`,
      bad: "echo the disk is made of cheese; exit 3",
    });
    const endless = await makeFlake(join(place.folder, "endless"), { endless: `: ${place.data}; while :; do :; done` });

    await using first = new Quickstart([...place.args, "--once", "--flake", failing]);
    expect(await first.ended()).toBe(1);
    expect(first.stdout).toMatch(/^FAILED +bad in .*\n +the disk is made of cheese$/m);
    expect(first.stdout).toMatch(/^built +good/m);

    await using second = new Quickstart([...place.args, "--flake", endless]);
    await second.says("building     endless");
    const running = () => processesOf(place.data);
    await expect.poll(running, { timeout: 20_000 }).toContainEqual(expect.stringContaining("while :"));
    second.signal("SIGINT");
    expect(await second.ended()).toBe(130);
    expect(await processesOf(place.data)).toEqual([]);
  },
);

test.skipIf(!nix.ok)("what cannot work is said before anything is started", async () => {
  await using place = await withPlace();
  const words = async (args: readonly string[]) => {
    await using run = new Quickstart([...place.args, ...args]);
    return { code: await run.ended(), said: run.stdout + run.stderr };
  };
  const taken = createServer().listen(0, "127.0.0.1");
  await new Promise((resolve) => taken.once("listening", resolve));
  const { port } = taken.address() as AddressInfo;

  const busy = await words(["--port", String(port)]);
  const noFolder = await words(["--flake", join(place.folder, "missing")]);
  const unknown = await words(["--fake", "x"]);
  taken.close();

  expect(busy).toEqual({ code: 1, said: expect.stringContaining(`port ${port} is in use`) });
  expect(noFolder).toEqual({ code: 1, said: expect.stringContaining("is no git repository") });
  expect(unknown).toEqual({ code: 2, said: expect.stringContaining("Unknown option '--fake'") });
});
