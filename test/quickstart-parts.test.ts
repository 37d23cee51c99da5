import { existsSync } from "node:fs";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import type { EvaluationBuildItem, EvaluationView } from "#core/api/evaluations.ts";
import { requirePassword } from "#core/domain/passwords.ts";
import { makePassword } from "#scripts/quickstart/account.ts";
import { DataFolder } from "#scripts/quickstart/data-folder.ts";
import { cleanEnvironment } from "#scripts/quickstart/environment.ts";
import { isSuccess } from "#scripts/quickstart/follow.ts";
import { buildName, Narrator } from "#scripts/quickstart/narrator.ts";
import { parseOptions } from "#scripts/quickstart/options.ts";
import type { Output } from "#scripts/quickstart/output.ts";
import { projectName } from "#scripts/quickstart/repository.ts";
import { findTools } from "#scripts/quickstart/requirements.ts";
import { isOnThisMachine } from "#scripts/quickstart/server.ts";
import { withTemporaryFolder } from "./support/temporary-folder.ts";

function recordingOutput(): Output & { readonly lines: string[] } {
  const lines: string[] = [];
  const line = (label: string, text: string) => void lines.push(`${label}: ${text}`);
  return {
    lines,
    line,
    good: line,
    bad: line,
    text: (text) => void lines.push(text),
    detail: (text) => void lines.push(`  ${text}`),
    confirm: async () => true,
  };
}

function build(name: string, status: EvaluationBuildItem["status"], fields: Partial<EvaluationBuildItem> = {}) {
  const updated_at = "2026-01-01T12:00:01.000000";
  return {
    id: name,
    name: `${"0".repeat(32)}-${name}.drv`,
    status,
    updated_at,
    build_time_ms: 40,
    has_artefacts: false,
    ...fields,
  };
}

function evaluation(status: EvaluationView["status"], fields: Partial<EvaluationView> = {}): EvaluationView {
  const unused = {} as EvaluationView;
  return { ...unused, status, created_at: "2026-01-01T12:00:00.000000", error_count: 0, error: null, ...fields };
}

test("every option has its meaning, and relative folders begin where the person called from", () => {
  const args = "--flake ../mine --wildcard checks.* --data here --port 4000 --yes --once --json".split(" ");

  expect(parseOptions(args, "/clone", "/home/me")).toEqual({
    flake: "../mine",
    wildcard: "checks.*",
    dataDir: "/home/me/here",
    port: 4000,
    yes: true,
    once: true,
    json: true,
    help: false,
    invokedFrom: "/home/me",
  });
  expect(parseOptions([], "/clone", "/home/me")).toMatchObject({ port: 3000, dataDir: "/clone/data/quickstart" });
});

test.each([["--prot", "1"], ["--port", "0"], ["--port", "65536"], ["--port", "3e3"], ["--flake="], ["example"]])(
  "%s %s is refused",
  (...args) => {
    expect(() => parseOptions(args, "/clone", "/home/me")).toThrow();
  },
);

test.each([
  ["https://example.com/owner/My.Flake.git", "my-flake"],
  ["git@example.com:owner/repo.git", "repo"],
  ["git@example.com:repo", "repo"],
  ["/home/me/dotfiles/", "dotfiles"],
  ["https://example.com/example", "repository-example"],
  ["https://example.com/---", "repository"],
])("the project of %s is called %s", (address, name) => {
  expect(projectName(address)).toBe(name);
});

test("a password that is made up is one that the server takes", () => {
  for (let i = 0; i < 500; i++) requirePassword(makePassword());
});

test("settings for another server, another store or npm do not reach what is started", () => {
  const inherited = { PATH: "/bin", LANG: "C", GRADIENT_DATABASE_URL: "x", NIX_REMOTE: "y", npm_config_cache: "z" };

  const { PATH, ...rest } = cleanEnvironment({ ...inherited, NIX_SSL_CERT_FILE: "/certificates" });

  expect(rest).toEqual({ LANG: "C", NIX_SSL_CERT_FILE: "/certificates" });
  expect(PATH).toMatch(/^\/bin:/);
});

test("a data folder has one run at a time, and a file in its place is named", async () => {
  await using folder = await withTemporaryFolder();
  const path = join(folder.path, "data");
  {
    using data = await DataFolder.open(path);
    await data.keep("secret", "x");
    await expect(DataFolder.open(path)).rejects.toThrow("another quickstart is running");
  }
  using again = await DataFolder.open(path);
  expect(await again.read("secret")).toBe("x");

  await writeFile(join(folder.path, "file"), "");
  await expect(DataFolder.open(join(folder.path, "file"))).rejects.toThrow("--data DIR");
});

test("each change is told once, what ended before what began, and a failure with its last words", async () => {
  const output = recordingOutput();
  const narrator = new Narrator(output, async () => ["no such file"]);

  await narrator.tell(evaluation("Building"), [build("app-1", "Queued"), build("lib-1", "Building")]);
  const repeated = await narrator.tell(evaluation("Building"), [build("app-1", "Queued"), build("lib-1", "Building")]);
  await narrator.tell(evaluation("Building"), [build("app-1", "Building"), build("lib-1", "Completed")]);
  await narrator.tell(evaluation("Completed"), [build("app-1", "FailedPermanent"), build("lib-1", "Completed")]);

  expect(repeated).toBe(false);
  expect(output.lines).toEqual([
    "building: lib-1",
    "built: lib-1 in 0.0 s",
    "building: app-1",
    "FAILED: app-1 in 0.0 s",
    "  no such file",
  ]);
});

test("what an earlier run built is not claimed for this one", async () => {
  const output = recordingOutput();
  const narrator = new Narrator(output, async () => []);

  await narrator.tell(evaluation("Completed"), [
    build("old-1", "Completed", { updated_at: "2026-01-01T11:59:59.000000" }),
  ]);

  expect(output.lines).toEqual(["there: old-1 (built by an earlier run)"]);
});

test("a message of several lines is told with its place, once", async () => {
  const output = recordingOutput();
  const narrator = new Narrator(output, async () => []);
  const message = {
    id: "1",
    level: "Error" as const,
    message: "syntax error\nat flake.nix:1:2",
    source: "nix",
    created_at: "",
    entry_points: ["packages.x"],
  };

  await narrator.tellMessages([message]);
  await narrator.tellMessages([message]);

  expect(output.lines).toEqual(["error: packages.x: syntax error", "  at flake.nix:1:2"]);
});

test.each([
  { status: "Completed", builds: ["Completed", "Substituted"], errors: 0, foreign: 0, success: true },
  { status: "Completed", builds: ["Completed", "FailedTimeout"], errors: 0, foreign: 0, success: false },
  { status: "Completed", builds: ["DependencyFailed"], errors: 0, foreign: 0, success: false },
  { status: "Completed", builds: ["Completed"], errors: 1, foreign: 0, success: false },
  { status: "Failed", builds: [], errors: 0, foreign: 0, success: false },
  { status: "Aborted", builds: ["Completed", "Aborted"], errors: 0, foreign: 0, success: false },
  { status: "Aborted", builds: ["Completed", "Aborted"], errors: 0, foreign: 1, success: true },
] as const)("$status with $builds, $errors errors and $foreign left out: success is $success", (end) => {
  const builds = end.builds.map((status, index) => build(String(index), status));

  expect(
    isSuccess({ evaluation: evaluation(end.status, { error_count: end.errors }), builds, foreign: end.foreign }),
  ).toBe(end.success);
});

test("a build is called by its derivation's name", () => {
  expect(buildName("0c1m1ijcsggxqip5wa31r08m9s8rv5b5-names-1.0.drv")).toBe("names-1.0");
});

const isRootOnDebian = process.getuid?.() === 0 && existsSync("/etc/debian_version");

/** Programs that only say their version, and an `apt-get` that writes down what it is asked and makes nix. */
async function makeFakeMachine(folder: string, programs: readonly string[]): Promise<Record<string, string>> {
  const program = async (name: string, script: string) => {
    await writeFile(join(folder, name), `#!/bin/sh\n${script}\n`, { mode: 0o755 });
  };
  for (const name of programs) await program(name, "echo version 2.8.0");
  const makeOne = `echo '#!/bin/sh\necho 2.8.0' > ${folder}/$name; /bin/chmod 755 ${folder}/$name`;
  const makeNix = `for name in nix nix-daemon; do ${makeOne}; done`;
  await program("apt-get", `echo "$@" >> ${folder}/calls; case "$1" in install) ${makeNix};; esac`);
  return { PATH: folder };
}

test.skipIf(!isRootOnDebian)("root on Debian gets what is missing installed, after it was announced", async () => {
  await using folder = await withTemporaryFolder();
  const output = recordingOutput();
  const environment = await makeFakeMachine(folder.path, ["git"]);

  const tools = await findTools(output, { environment, yes: true, signal: new AbortController().signal });

  expect(output.lines).toEqual(["install: apt-get install nix-bin"]);
  expect(await readFile(join(folder.path, "calls"), "utf8")).toBe("update -q\ninstall -q -y nix-bin\n");
  expect(tools).toMatchObject({ nix: join(folder.path, "nix"), nixVersion: "2.8.0", gitVersion: "2.8.0" });
});

test.skipIf(!isRootOnDebian)("who declines gets nothing installed, and is told what to do", async () => {
  await using folder = await withTemporaryFolder();
  const output: Output = { ...recordingOutput(), confirm: async () => false };
  const environment = await makeFakeMachine(folder.path, ["git"]);

  const finding = findTools(output, { environment, yes: false, signal: new AbortController().signal });

  await expect(finding).rejects.toThrow("nothing was installed. Install Nix 2.8 or later");
  await expect(readFile(join(folder.path, "calls"), "utf8")).rejects.toThrow("ENOENT");
});

test("the server may connect to this machine only when the repository that was named is there", () => {
  const here = ["http://localhost:8000/x", "git+https://ada@127.0.0.1/x", "ssh://git@[::1]:22/x", "git@localhost:x"];
  const elsewhere = ["https://example.org/localhost", "git@example.org:127.0.0.1/x", "file:///localhost", "github:a/b"];

  expect(here.map(isOnThisMachine)).toEqual([true, true, true, true]);
  expect(elsewhere.map(isOnThisMachine)).toEqual([false, false, false, false]);
});
