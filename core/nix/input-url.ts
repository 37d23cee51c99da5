/** The text names no flake that an input can be. The message is for the person who wrote it and shows no secret. */
export class InputUrlError extends Error {
  override readonly name = "InputUrlError";
}

const URL_LENGTH_MAX = 2_000;
const SCHEME = /^([a-z][a-z0-9]*(?:\+[a-z]+)?):(.*)$/;
const REMOTE = new Set(["https", "http", "git+https", "git+http", "git+ssh", "tarball+https", "tarball+http"]);
const FILES = new Set(["file+https", "file+http"]);
const MERCURIAL = new Set(["hg+https", "hg+http", "hg+ssh"]);
const FORGES = new Set(["github", "gitlab", "sourcehut"]);
const LOCAL = new Set(["path", "file", "git+file", "tarball+file", "hg+file", "file+file"]);

/**
 * Checks a reference as a flake writes it (`nix flake --help`): of a forge (`github:owner/name`), or a whole URL.
 * Names of a registry are refused, since each machine has its own; so are places on the machine that evaluates, unless
 * `allowLocal`. Throws `InputUrlError`.
 */
export function checkInputUrl(text: string, { allowLocal }: { readonly allowLocal: boolean }): void {
  if (text === "") fail("it is empty");
  if (text.length > URL_LENGTH_MAX) fail(`it is longer than ${URL_LENGTH_MAX} characters`);
  // biome-ignore lint/suspicious/noControlCharactersInRegex: finding them is the point
  if (/[\s\0-\x1f\x7f-\x9f"\\]/.test(text)) fail("it holds a space, quote or control character");
  if (text.includes("#")) fail("it holds a #: an input is a whole flake");
  const [, scheme = "", rest = ""] = SCHEME.exec(text) ?? [];
  if (LOCAL.has(scheme) || text.startsWith("/") || text.startsWith(".")) {
    if (!allowLocal) fail("places on the machine that evaluates are not allowed on this server");
    if (!LOCAL.has(scheme)) fail("write it with path: or git+file: before it");
  } else if (FORGES.has(scheme)) {
    if (!/^[A-Za-z0-9~][^/]*\/[^/].*$/.test(rest)) fail(`write ${scheme}:owner/name, or ${scheme}:owner/name/branch`);
  } else if (REMOTE.has(scheme) || FILES.has(scheme) || MERCURIAL.has(scheme)) checkHost(text, rest);
  else if (scheme === "ssh") fail("write git+ssh:// before the host");
  else fail("write a whole reference such as github:NixOS/nixpkgs/nixos-unstable or git+https://host/path");
}

/** Whether git needs a key of ours to fetch it. */
export function isSshInput(text: string): boolean {
  return /^(?:git|hg)\+ssh:/.test(text);
}

function checkHost(text: string, rest: string): void {
  const authority = /^\/\/([^/?]*)\/./.exec(rest)?.[1];
  const host = authority?.slice(authority.lastIndexOf("@") + 1);
  if (!authority || !host || host.startsWith(":")) fail("it names no host, or nothing on it");
  // ssh would take it for an option.
  if (authority.startsWith("-") || host.startsWith("-")) fail("its host starts with a dash");
  if (!URL.canParse(text)) fail("it is not a well-formed URL");
}

function fail(message: string): never {
  throw new InputUrlError(message);
}
