// Runs one of the repository's scripts with the Node it is written for, on a machine that has only node (20 or later)
// and npm: installs the locked dependencies when they are missing or differ, then hands over.
//
//   node scripts/bootstrap.mjs [--without-tools] [options of node] scripts/verify.ts [arguments]
//
// With --without-tools the packages for development need not be there: what `npm ci --omit=dev` installed stays.
// Its own words go to stderr, so that a script's stdout stays the script's. The script starts in the repository's root;
// the folder the user called from is in GRADIENT_INVOKED_FROM.
import { spawn, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { constants } from "node:os";
import { delimiter, dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

const NODE_MAJOR_MIN = 24;
const LOCK_POLL_MS = 500;

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const modules = join(root, "node_modules");
const WITHOUT_TOOLS = "--without-tools";
const words = process.argv.slice(2);
const scriptAt = words.findIndex((word) => !word.startsWith("-"));
const nodeOptions = words.slice(0, Math.max(0, scriptAt));
const toolsNeeded = !nodeOptions.includes(WITHOUT_TOOLS);
const pinnedNode = join(modules, `node-linux-${process.arch}`, "bin", "node");

/** @param {string} message */
function say(message) {
  process.stderr.write(`gradient: ${message}\n`);
}

/** @param {string} message @returns {never} */
function fail(message) {
  say(message);
  process.exit(1);
}

/** @param {string} path @returns {Record<string, any>} the entries of a lock file, empty when there is none */
function lockedPackages(path) {
  try {
    return JSON.parse(readFileSync(path, "utf8")).packages ?? {};
  } catch {
    return {};
  }
}

/** @param {string | string[] | undefined} allowed @param {string} here */
function fits(allowed, here) {
  return allowed === undefined || [allowed].flat().includes(here);
}

/** @returns {"glibc" | "musl"} */
function libcHere() {
  // Without this the report looks up the machine's addresses, which may take a second.
  process.report.excludeNetwork = true;
  return process.report.getReport().header.glibcVersionRuntime ? "glibc" : "musl";
}

/** @param {Record<string, any>} entry of the lock file @returns {boolean} whether it is a binary for this machine */
function isBinaryForThisMachine({ os, cpu, libc }) {
  if (os === undefined && cpu === undefined) return false;
  if (!fits(os, process.platform) || !fits(cpu, process.arch)) return false;
  return libc === undefined || fits(libc, libcHere());
}

/**
 * What npm would still have to do. Contents are compared instead of times: a checkout that only touches
 * package-lock.json does not install anew, and one that turns it back does. npm writes node_modules/.package-lock.json
 * last, so an installation that was cut short has none.
 *
 * @returns {"everything" | "binaries" | "nothing"}
 */
function missingDependencies() {
  const installed = lockedPackages(join(modules, ".package-lock.json"));
  const wanted = lockedPackages(join(root, "package-lock.json"));
  if (Object.keys(installed).some((path) => !(path in wanted))) return "everything";

  let missing = "nothing";
  for (const [path, entry] of Object.entries(wanted)) {
    const found = installed[path];
    if (path === "" || (found === undefined && entry.dev && !toolsNeeded)) continue;
    if (found === undefined && entry.optional) {
      if (isBinaryForThisMachine(entry)) missing = "binaries";
    } else if (found?.version !== entry.version || found?.integrity !== entry.integrity) return "everything";
  }
  return missing;
}

/** @param {string} path @returns {boolean} whether the process that wrote its id there is still alive */
function holderIsAlive(path) {
  try {
    process.kill(Number(readFileSync(path, "utf8")), 0);
    return true;
  } catch (error) {
    return error.code === "EPERM";
  }
}

/** Two commands started at once in a fresh clone must not install over each other. */
async function withInstallLock(action) {
  const lock = join(root, ".cache", "install.pid");
  mkdirSync(dirname(lock), { recursive: true });
  for (let told = false; ; ) {
    try {
      writeFileSync(lock, String(process.pid), { flag: "wx" });
      break;
    } catch (error) {
      if (error.code !== "EEXIST") throw error;
      if (!holderIsAlive(lock)) rmSync(lock, { force: true });
      else if (!told) {
        say("another command is installing the dependencies, waiting for it");
        told = true;
      }
      await new Promise((wake) => setTimeout(wake, LOCK_POLL_MS));
    }
  }
  try {
    await action();
  } finally {
    rmSync(lock, { force: true });
  }
}

/**
 * No install scripts run. Development and optional packages are asked for by name: NODE_ENV=production drops them.
 *
 * @param {string[]} command @param {Record<string, string>} [extraEnv]
 */
async function runNpm(command, extraEnv = {}) {
  const options = ["--ignore-scripts", "--include=dev", "--include=optional", "--no-audit", "--no-fund"];
  const npm = spawn("npm", [...command, ...options, "--loglevel=error", "--no-update-notifier"], {
    cwd: root,
    env: { ...process.env, ...extraEnv },
    stdio: ["ignore", 2, 2],
  });
  const end = await new Promise((done) => {
    npm.on("error", (error) => done(`did not start (${error.message}): install npm 9 or later`));
    npm.on("exit", (code, signal) => done(code === 0 ? null : `ended with ${signal ?? `exit code ${code}`}`));
  });
  if (end !== null) throw new Error(`npm ${command[0]} ${end}; run "npm ci --ignore-scripts" in ${root} to see why`);
}

/** npm looks for the machine's settings (registry, certificates) beside the Node it runs on: name the usual place. */
function environmentOfPinnedNode() {
  const { stdout } = spawnSync("npm", ["config", "get", "globalconfig"], { cwd: root, encoding: "utf8" });
  return {
    PATH: [dirname(pinnedNode), process.env.PATH].join(delimiter),
    npm_config_globalconfig: stdout.trim(),
  };
}

/**
 * npm leaves out, without a word, an optional package whose `engines` do not fit the Node that npm itself runs on. The
 * first pass brings the pinned Node, the second one runs npm on it and adds those packages.
 */
async function installDependencies() {
  if (missingDependencies() === "nothing") return;
  const started = Date.now();
  if (missingDependencies() === "everything") {
    say("installing dependencies with npm ci (once; again when package-lock.json changes)");
    await runNpm(["ci"]);
  }
  if (missingDependencies() === "binaries") {
    await runNpm(["install", "--no-save"], environmentOfPinnedNode());
  }
  if (missingDependencies() === "binaries") say("npm left out packages for this machine; what needs them will say so");
  say(`dependencies installed in ${((Date.now() - started) / 1000).toFixed(1)} s`);
}

/** @param {string} path @returns {number} the major version, 0 when it does not run here (another libc, say) */
function majorOf(path) {
  if (!existsSync(path)) return 0;
  const { stdout, status } = spawnSync(path, ["--version"], { encoding: "utf8" });
  return status === 0 ? Number.parseInt(stdout.replace(/^v/, ""), 10) || 0 : 0;
}

/** @returns {{ node: string, path: string }} the Node to use, and the PATH under which children find the same one */
function findNode() {
  const inherited = process.env.PATH ?? "";
  const bin = join(modules, ".bin");
  if (process.platform === "linux" && majorOf(pinnedNode) >= NODE_MAJOR_MIN) {
    return { node: pinnedNode, path: [bin, dirname(pinnedNode), inherited].join(delimiter) };
  }

  const pinnedState = existsSync(pinnedNode) ? "does not run on this machine" : "is not installed";
  const running = Number.parseInt(process.versions.node, 10);
  if (running >= NODE_MAJOR_MIN) {
    say(`the pinned Node ${pinnedState}, going on with ${process.execPath} (${process.version})`);
    // Ahead of .bin, which may hold the pinned one that cannot run.
    return { node: process.execPath, path: [dirname(process.execPath), bin, inherited].join(delimiter) };
  }
  return fail(
    `needs Node ${NODE_MAJOR_MIN} or later; the pinned one (${pinnedNode}) ${pinnedState} and the running one is ` +
      `${process.version}. Start with a newer node, or remove ${modules} and try again: npm fetches the pinned one`,
  );
}

/** @param {string} node @param {string} path @param {string[]} parameters of node */
function handOver(node, path, parameters) {
  const here = process.cwd();
  const env = { ...process.env, PATH: path };
  // npm starts scripts in the root and keeps the user's folder in INIT_CWD.
  // What earlier starts compiled: a quicker start, and some 20 MB less memory.
  env.NODE_COMPILE_CACHE ??= join(root, "node_modules", ".cache", "compiled");
  env.GRADIENT_INVOKED_FROM = here === root ? (process.env.INIT_CWD ?? here) : here;
  const child = spawn(node, parameters, { cwd: root, env, stdio: "inherit" });

  // A terminal's Ctrl-C reaches the child by itself; sent again it would look like a second, impatient one.
  const atTerminal = process.stdin.isTTY || process.stderr.isTTY;
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) {
    let forwarded = false;
    process.on(signal, () => {
      if (forwarded || (signal === "SIGINT" && atTerminal)) return;
      forwarded = true;
      setTimeout(() => {
        forwarded = false;
      }, 1_000).unref();
      child.kill(signal);
    });
  }
  child.on("error", (error) => fail(`${node} did not start: ${error.message}`));
  child.on("exit", (code, signal) => process.exit(signal ? 128 + constants.signals[signal] : code));
}

if (scriptAt === -1) fail(`usage: node scripts/bootstrap.mjs [${WITHOUT_TOOLS}] [options of node] SCRIPT [arguments]`);
const [script, ...rest] = words.slice(scriptAt);
try {
  // Asked again under the lock: another command may just have done it.
  if (missingDependencies() !== "nothing") await withInstallLock(installDependencies);
} catch (error) {
  fail(error.message);
}
if (!existsSync(resolve(root, script))) fail(`${script} does not exist in ${root}: name a script as scripts/verify.ts`);
const { node, path } = findNode();
handOver(node, path, [...nodeOptions.filter((word) => word !== WITHOUT_TOOLS), resolve(root, script), ...rest]);
