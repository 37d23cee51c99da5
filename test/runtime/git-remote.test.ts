import { mkdir, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { expect, test } from "vitest";
import { createGitRemote } from "#runtime/node/git-remote.ts";
import { git, withGitServer } from "#test/support/git.ts";
import { withTemporaryFolder } from "#test/support/temporary-folder.ts";

const remote = createGitRemote({ allowLocal: false });

test("HEAD, branches and tags resolve to commits over http", async () => {
  await using folder = await withTemporaryFolder();
  const { first, second } = await makeRepository(folder.path);
  await using server = await withGitServer(folder.path);
  const url = `${server.url}/repository/.git`;

  expect(await remote.resolve(url)).toEqual({ commit: second, ref: "HEAD" });
  expect(await remote.resolve(url, { ref: "main" })).toEqual({ commit: second, ref: "refs/heads/main" });
  expect(await remote.resolve(url, { ref: "old/branch" })).toEqual({ commit: first, ref: "refs/heads/old/branch" });
  expect(await remote.resolve(url, { ref: "refs/heads/main" })).toEqual({ commit: second, ref: "refs/heads/main" });
  // An annotated tag is an object of its own; its commit is what counts.
  expect(await remote.resolve(url, { ref: "v1" })).toEqual({ commit: first, ref: "refs/tags/v1" });
});

test("what is not there is told apart: branch, repository, commit", async () => {
  await using folder = await withTemporaryFolder();
  await makeRepository(folder.path);
  await mkdir(join(folder.path, "empty"));
  await git(join(folder.path, "empty"), "init", "--quiet");
  await using server = await withGitServer(folder.path);

  await expect(remote.resolve(`${server.url}/repository/.git`, { ref: "nope" })).rejects.toThrow(
    "the repository cannot be read: it has no branch or tag nope",
  );
  await expect(remote.resolve(`${server.url}/empty/.git`)).rejects.toThrow("the repository has no commit yet");
  await expect(remote.resolve(`${server.url}/nothing`)).rejects.toMatchObject({
    code: "repository_unreachable",
    message: expect.stringContaining("not found"),
  });
});

test("a message shows no credentials", async () => {
  await using folder = await withTemporaryFolder();
  await using server = await withGitServer(folder.path);
  const url = `${server.url.replace("//", "//ada:hunter2@")}/nothing`;

  const error = await remote.resolve(url).catch((thrown: Error) => thrown);

  expect(String(error)).toContain("127.0.0.1");
  expect(String(error)).not.toContain("hunter2");
});

test("a local repository is read only where that is allowed", async () => {
  await using folder = await withTemporaryFolder();
  const { second } = await makeRepository(folder.path);
  const url = `file://${join(folder.path, "repository")}`;

  await expect(remote.resolve(url)).rejects.toThrow("transport 'file' not allowed");
  expect(await createGitRemote({ allowLocal: true }).resolve(url)).toEqual({ commit: second, ref: "HEAD" });
});

test.each(["ext::sh -c 'touch pwned'", "--upload-pack=touch pwned"])("%j runs nothing", async (url) => {
  await expect(remote.resolve(url)).rejects.toMatchObject({ code: "repository_unreachable" });
});

test.each(["*", "--all", "a..b", "a b", "refs/heads/", "main:x", "^main", ""])("the ref %j is refused", async (ref) => {
  await expect(remote.resolve("http://127.0.0.1:1/x", { ref })).rejects.toThrow("is not the name of a branch or tag");
});

test("a server that does not answer is given up on, by the limit or by the caller", async () => {
  const silent = createServer(() => {});
  await new Promise<void>((resolve) => silent.listen(0, "127.0.0.1", resolve));
  const url = `http://127.0.0.1:${(silent.address() as AddressInfo).port}/repository`;
  try {
    const hasty = createGitRemote({ allowLocal: false, timeoutMs: 300 });
    await expect(hasty.resolve(url)).rejects.toThrow("no answer within 0.3 s");
    await expect(remote.resolve(url, { signal: AbortSignal.timeout(300) })).rejects.toThrow(/timeout|aborted/);
  } finally {
    silent.closeAllConnections();
    silent.close();
  }
});

/** Two commits on `main`; `old/branch` and the annotated tag `v1` stay at the first. */
async function makeRepository(root: string): Promise<{ first: string; second: string }> {
  const folder = join(root, "repository");
  await mkdir(folder);
  await git(folder, "init", "--quiet");
  await writeFile(join(folder, "a"), "1");
  await git(folder, "add", "a");
  await git(folder, "commit", "--quiet", "-m", "first");
  await git(folder, "branch", "old/branch");
  await git(folder, "tag", "-a", "-m", "one", "v1");
  const first = await git(folder, "rev-parse", "HEAD");
  await git(folder, "commit", "--quiet", "--allow-empty", "-m", "second");
  return { first, second: await git(folder, "rev-parse", "HEAD") };
}
