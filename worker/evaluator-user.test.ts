import { join } from "node:path";
import { expect, test } from "vitest";
import { withTemporaryFolder } from "#test/support/temporary-folder.ts";
import { readWorkerConfig, type WorkerConfig } from "./config.ts";
import { requireEvaluatorUser, unsafeNixProblem, userOf } from "./evaluator-user.ts";

const isRoot = process.getuid?.() === 0;

test.each(["nix (Nix) 2.8.0", "nix (Nix) 2.25.5", "nix (Nix) 1.99", "nix (Lix, like Nix) 2.91.1", ""])(
  "strangers' flakes are not evaluated by %j, and the three ways out are told",
  (version) => {
    const problem = unsafeNixProblem(version);

    expect(problem).toContain("every flake can read every file that this worker can read");
    expect(problem).toContain("GRADIENT_WORKER_EVALUATOR_USER");
    expect(problem).toContain("Nix 2.26 or later");
    expect(problem).toContain("GRADIENT_WORKER_ALLOW_LOCAL_SOURCES");
  },
);

test.each(["nix (Nix) 2.26.3\n", "nix (Nix) 2.34.8", "nix (Nix) 3.0", "nix (Determinate Nix 3.6.2) 2.29.0"])(
  "%j keeps a flake from the worker's files by itself",
  (version) => {
    expect(unsafeNixProblem(version)).toBeNull();
  },
);

test("a user is found by the whole name in passwd's text", () => {
  const passwd = "root:x:0:0:root:/root:/bin/sh\nevaluator:x:990:985::/var/empty:/bin/false\nbad:x:no:1::/:\n";

  expect(userOf(passwd, "evaluator")).toEqual({ uid: 990, gid: 985 });
  expect(userOf(passwd, "evaluato")).toBeNull();
  expect(userOf(passwd, "bad")).toBeNull();
});

test("a worker that evaluates nothing, or trusts every flake, needs neither user nor newer Nix", async () => {
  expect(await requireEvaluatorUser(config({ GRADIENT_WORKER_CAPABILITY_EVAL: "false" }))).toBeNull();
  expect(await requireEvaluatorUser(config({ GRADIENT_WORKER_ALLOW_LOCAL_SOURCES: "true" }))).toBeNull();
});

test("who is not root is told that only root can switch users", async ({ skip }) => {
  skip(isRoot, "this is root, who can switch users");
  const chosen = config({ GRADIENT_WORKER_EVALUATOR_USER: "nobody" });
  await expect(requireEvaluatorUser(chosen)).rejects.toThrow("only root can start processes of another user");
});

test("an evaluator's user is refused when unknown, root, or kept out of the data folder", async ({ skip }) => {
  skip(!isRoot, "only root can switch users");
  await using folder = await withTemporaryFolder();
  const withUser = (name: string) =>
    config({ GRADIENT_WORKER_EVALUATOR_USER: name, GRADIENT_WORKER_DATA_DIR: join(folder.path) });

  await expect(requireEvaluatorUser(withUser("gradient-nobody-has-this"))).rejects.toThrow("there is no such user");
  await expect(requireEvaluatorUser(withUser("root"))).rejects.toThrow("this is root, who can read everything");
  await expect(requireEvaluatorUser(withUser("nobody"))).rejects.toThrow(`this user cannot enter ${folder.path}`);
});

function config(environment: Readonly<Record<string, string>>): WorkerConfig {
  return readWorkerConfig({
    PATH: process.env.PATH,
    GRADIENT_WORKER_SERVER_URL: "ws://127.0.0.1:1/proto",
    GRADIENT_WORKER_CAPABILITY_EVAL: "true",
    GRADIENT_BINPATH_NIX: "/nowhere/nix",
    ...environment,
  }).config;
}
