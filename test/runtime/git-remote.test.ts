import { execFile } from "node:child_process";
import { mkdir, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import { type AddressInfo, createServer as createSocketServer } from "node:net";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type IpNetwork, parseIpNetwork } from "#core/domain/ip-address.ts";
import type { OutboundRules } from "#core/domain/outbound-address.ts";
import type { GitRemote } from "#core/ports/git-remote.ts";
import { gitEnvironment } from "#runtime/node/config/environment.ts";
import { createGitRemote, type GitRemoteOptions } from "#runtime/node/git-remote.ts";
import { gitTarget } from "#runtime/node/git-target.ts";
import { git, withGitServer } from "#test/support/git.ts";
import { type TemporaryFolder, withTemporaryFolder } from "#test/support/temporary-folder.ts";

const LOOPBACK: OutboundRules = { allowed: [parseIpNetwork("127.0.0.1/32") as IpNetwork], privateAllowed: true };
const NOWHERE: OutboundRules = { allowed: [], privateAllowed: true };

let state: TemporaryFolder;
let options: GitRemoteOptions;
let remote: GitRemote;
beforeAll(async () => {
  state = await withTemporaryFolder();
  options = { allowLocal: false, outbound: LOOPBACK, folder: state.path };
  remote = createGitRemote(options);
});
afterAll(() => state[Symbol.asyncDispose]());

test("HEAD, branches and tags resolve to commits over http", async () => {
  await using folder = await withTemporaryFolder();
  const { first, second } = await makeRepository(folder.path);
  await using server = await withGitServer(folder.path);
  const url = `${server.url}/repository/.git`;

  expect(await remote.resolve(url)).toEqual({ commit: second, ref: "HEAD", branch: "main" });
  expect(await remote.resolve(url, { ref: "main" })).toEqual({
    commit: second,
    ref: "refs/heads/main",
    branch: "main",
  });
  const old = { commit: first, ref: "refs/heads/old/branch", branch: "old/branch" };
  expect(await remote.resolve(url, { ref: "old/branch" })).toEqual(old);
  expect(await remote.resolve(url, { ref: "refs/heads/main" })).toMatchObject({ commit: second, branch: "main" });
  // An annotated tag is an object of its own; its commit is what counts.
  expect(await remote.resolve(url, { ref: "v1" })).toEqual({ commit: first, ref: "refs/tags/v1", branch: null });
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

  await expect(remote.resolve(url)).rejects.toThrow("local paths are not allowed on this server");
  expect(await createGitRemote({ ...options, allowLocal: true }).resolve(url)).toEqual({
    commit: second,
    ref: "HEAD",
    branch: "main",
  });
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
    const hasty = createGitRemote({ ...options, timeoutMs: 300 });
    await expect(hasty.resolve(url)).rejects.toThrow("no answer within 0.3 s");
    await expect(remote.resolve(url, { signal: AbortSignal.timeout(300) })).rejects.toThrow(/timeout|aborted/);
  } finally {
    silent.closeAllConnections();
    silent.close();
  }
});

test.each([
  (port: number) => `http://127.0.0.1:${port}/x`,
  (port: number) => `http://0x7f.1:${port}/x`,
  (port: number) => `http://localhost:${port}/x`,
  (port: number) => `http://[::ffff:127.0.0.1]:${port}/x`,
  (port: number) => `ssh://git@127.0.0.1:${port}/x`,
  (port: number) => `ssh://git@2130706433:${port}/x`,
  () => "git@localhost:x",
  () => "http://169.254.169.254/latest/meta-data",
  () => "http://[fe80::1]/x",
])("what is on this machine or its link is refused before a connection is opened (%#)", async (urlFor) => {
  await using socket = await withSocket();
  const strict = createGitRemote({ ...options, outbound: NOWHERE });

  await expect(strict.resolve(urlFor(socket.port))).rejects.toMatchObject({
    code: "repository_unreachable",
    message: expect.stringMatching(/is the local or reserved address .* only when GRADIENT_OUTBOUND_ALLOW lists it$/),
  });
  expect(socket.connections()).toBe(0);
});

test("git connects to the addresses that were checked, whatever the name says a moment later", async () => {
  const allowed = {
    allowed: [parseIpNetwork("127.0.0.0/8"), parseIpNetwork("::1")] as IpNetwork[],
    privateAllowed: true,
  };
  const http = await gitTarget({ kind: "http", url: "http://LOCALHOST.:81/x" }, allowed);
  expect(http.url).toBe("http://localhost:81/x");
  expect(http.gitArgs.join(" ")).toMatch(
    /http\.followRedirects=false .*http\.curloptResolve=localhost:81:\S*127\.0\.0\.1/,
  );
  const ssh = await gitTarget({ kind: "ssh", url: "ssh://git@localhost:2222/x" }, LOOPBACK);
  expect(ssh.sshOptions).toEqual(["HostName=127.0.0.1", "HostKeyAlias=[localhost]:2222"]);
  const short = await gitTarget({ kind: "git", url: "git@localhost:x/y" }, LOOPBACK);
  expect(short.sshOptions).toEqual(["HostName=127.0.0.1", "HostKeyAlias=localhost"]);
});

test("a name is reached at its address, and a redirect is not followed but told", async () => {
  await using folder = await withTemporaryFolder();
  const { second } = await makeRepository(folder.path);
  await using server = await withGitServer(folder.path);
  const named = `${server.url.replace("127.0.0.1", "localhost")}/repository/.git`;
  expect(await remote.resolve(named)).toEqual({ commit: second, ref: "HEAD", branch: "main" });

  const redirecting = createServer((request, response) => {
    response.writeHead(301, { location: `${server.url}/repository/.git${request.url?.slice(2)}` }).end();
  });
  await new Promise<void>((resolve) => redirecting.listen(0, "127.0.0.1", resolve));
  const { port } = redirecting.address() as AddressInfo;
  try {
    await expect(remote.resolve(`http://127.0.0.1:${port}/x`)).rejects.toThrow("name the address it leads to");
  } finally {
    redirecting.closeAllConnections();
    redirecting.close();
  }
});

test("no password or key of the operator's home is used", async () => {
  await using folder = await withTemporaryFolder();
  await makeRepository(folder.path);
  await using server = await withGitServer(folder.path, "ada:hunter2");
  await writeFile(join(folder.path, ".netrc"), "machine 127.0.0.1 login ada password hunter2\n", { mode: 0o600 });
  const { HOME } = process.env;
  process.env.HOME = folder.path;
  try {
    await expect(remote.resolve(`${server.url}/repository/.git`)).rejects.toMatchObject({
      code: "repository_unreachable",
    });
  } finally {
    process.env.HOME = HOME;
  }
  const withPassword = `${server.url.replace("//", "//ada:hunter2@")}/repository/.git`;
  expect(await remote.resolve(withPassword)).toMatchObject({ ref: "HEAD" });
});

test("ssh is told to leave the operator's settings, keys and agent alone", async () => {
  const places = { protocols: "ssh", home: "/h", knownHostsFile: "/it's a 100% path/known_hosts", sshOptions: [] };
  const { GIT_SSH_COMMAND = "", HOME, SSH_AUTH_SOCK } = gitEnvironment(places);
  // What ssh makes of it, as its own words say.
  const { stdout } = await promisify(execFile)("sh", ["-c", `${GIT_SSH_COMMAND} -G git@example.org`]);

  expect([HOME, SSH_AUTH_SOCK]).toEqual(["/h", undefined]);
  expect(GIT_SSH_COMMAND).toContain("-F /dev/null");
  const settings = stdout.split("\n");
  expect(settings).toContain("identityfile none");
  expect(settings).toContain("identityagent none");
  expect(settings).toContain("identitiesonly yes");
  expect(settings).toContain("batchmode yes");
  expect(settings).toContain("stricthostkeychecking accept-new");
  expect(settings.filter((line) => line.startsWith("userknownhostsfile"))[0]).toContain("it's a 100");
});

interface Socket extends AsyncDisposable {
  readonly port: number;
  connections(): number;
}

/** Counts who connects. */
async function withSocket(): Promise<Socket> {
  let connections = 0;
  const server = createSocketServer((socket) => {
    connections++;
    socket.destroy();
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const dispose = () => new Promise<void>((resolve) => server.close(() => resolve()));
  const { port } = server.address() as AddressInfo;
  return { port, connections: () => connections, [Symbol.asyncDispose]: dispose };
}

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
