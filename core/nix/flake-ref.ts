/** Where a repository is fetched from. `git`: the short ssh form `user@host:path`, as git itself takes it. */
export interface RepositoryUrl {
  readonly kind: "https" | "http" | "ssh" | "git" | "file";
  /** What git is given. May hold credentials: show `redactUrl(url)`. */
  readonly url: string;
}

/** The text names no repository that can be fetched. The message is for the person who wrote it and shows no secret. */
export class RepositoryUrlError extends Error {
  override readonly name = "RepositoryUrlError";
}

const URL_LENGTH_MAX = 2048;
/** ssh and git decode what they are given. */
const DASH = /^(?:-|%2d)/i;
const HOST = /^(?:[A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9_])?\.?|\[[0-9A-Fa-f:.]+\])$/;
/** As in references of flakes. What forges may have behind a ? is another matter. */
const FLAKE_PARAMETER = /[?&](?:dir|submodules|lfs|ref|rev|shallow|allRefs|narHash)=/;
const SHORT_SSH = /^([A-Za-z0-9_][A-Za-z0-9._-]*)@([^:/@]+):(?!\/\/)(.+)$/;

/**
 * Accepts `https://`, `http://` and `ssh://` URLs, the same behind `git+`, and `user@host:path`; `file:///path` and an
 * absolute path only with `allowLocal`. Refuses everything that git or ssh could take for an option, for another
 * transport or for two arguments. Throws `RepositoryUrlError`.
 */
export function parseRepositoryUrl(text: string, { allowLocal }: { readonly allowLocal: boolean }): RepositoryUrl {
  if (text === "") fail("it is empty");
  if (text.length > URL_LENGTH_MAX) fail(`it is longer than ${URL_LENGTH_MAX} characters`);
  if (text.startsWith("-")) fail("it starts with a dash");
  // biome-ignore lint/suspicious/noControlCharactersInRegex: finding them is the point
  if (/[\s\0-\x1f\x7f-\x9f]/.test(text)) fail("it holds a space or control character");
  if (text.includes("\\")) fail("it holds a backslash");
  if (/%(?:[01][0-9a-f]|7f)/i.test(text)) fail("it holds an encoded control character");
  if (text.includes("#")) fail("it holds a #: name the attributes in the project's patterns");
  if (text.startsWith("/")) return readLocal(text, allowLocal);
  const match = /^(git\+)?([A-Za-z][A-Za-z0-9.-]*):\/\/(.*)$/.exec(text);
  if (match) return readUrl((match[2] as string).toLowerCase(), match[3] as string, match[1] !== undefined, allowLocal);
  return readShortSsh(text);
}

/** The same text without passwords and tokens, for logs and messages; it may hold several URLs. */
export function redactUrl(text: string): string {
  return text.replace(
    /([a-z][a-z0-9+.-]{0,20}:\/\/)([^\s/?#]*)@/gi,
    (_, scheme: string, userInfo: string) => `${scheme}${redactUserInfo(scheme, userInfo)}@`,
  );
}

function readUrl(scheme: string, rest: string, isFlakeReference: boolean, allowLocal: boolean): RepositoryUrl {
  if (isFlakeReference ? rest.includes("?") : FLAKE_PARAMETER.test(rest)) {
    fail(
      "it holds parameters behind a ?: write the plain URL. The flake is at the top of the default branch, " +
        "without submodules and Git LFS",
    );
  }
  switch (scheme) {
    case "file":
      if (!rest.startsWith("/")) fail("a file URL is written file:///absolute/path");
      return readLocal(rest, allowLocal);
    case "https":
    case "http":
    case "ssh":
      checkNetworkUrl(scheme, rest);
      return { kind: scheme, url: `${scheme}://${rest}` };
    case "git":
      return fail("git:// proves nothing about who answers: use https:// or ssh://");
    default:
      return fail("only https://, http:// and ssh:// are supported");
  }
}

function checkNetworkUrl(scheme: string, rest: string): void {
  const authority = /^[^/?]*/.exec(rest)?.[0] ?? "";
  const path = rest.slice(authority.length);
  const at = authority.lastIndexOf("@");
  if (at >= 0 && authority.indexOf("@") !== at) fail("write an @ in a user's name or password as %40");
  if (DASH.test(authority)) fail("its user starts with a dash");
  const host = /^(.*?)(?::([0-9]{1,5}))?$/.exec(authority.slice(at + 1));
  if (!host || !HOST.test(host[1] as string)) fail("its host is not a name or an address");
  if (host[2] !== undefined && (Number(host[2]) < 1 || Number(host[2]) > 65535)) fail("its port is not 1 to 65535");
  if (!/^\/[^/?]/.test(path)) fail("it names a host but no repository there");
  if (scheme === "ssh") checkSshPath(path.slice(1));
  if (!URL.canParse(`${scheme}://${rest}`)) fail("it is not a well-formed URL");
}

function readShortSsh(text: string): RepositoryUrl {
  const match = SHORT_SSH.exec(text);
  if (!match) {
    if (/^[a-z]+:[^/:]/.test(text)) fail("short names of flakes are not supported: write the whole https:// URL");
    fail("it is neither a URL such as https://host/path nor of the form git@host:path");
  }
  if (!HOST.test(match[2] as string)) fail("its host is not a name or an address");
  checkSshPath(match[3] as string);
  return { kind: "git", url: text };
}

/** The path becomes an argument of a command on the other side. */
function checkSshPath(path: string): void {
  if (DASH.test(path)) fail("its path starts with a dash");
}

function readLocal(path: string, allowLocal: boolean): RepositoryUrl {
  if (!allowLocal) fail("local paths are not allowed on this server");
  if (path.startsWith("//") || path.includes("?"))
    fail("a local repository is an absolute path such as /srv/repository");
  return { kind: "file", url: `file://${path}` };
}

function redactUserInfo(scheme: string, userInfo: string): string {
  // Forges take tokens as the user's name over http; over ssh the name is public and only a password is not.
  if (/^(?:git\+)?https?:/i.test(scheme)) return "***";
  const colon = userInfo.indexOf(":");
  return colon < 0 ? userInfo : `${userInfo.slice(0, colon)}:***`;
}

function fail(message: string): never {
  throw new RepositoryUrlError(`the repository's address cannot be used: ${message}`);
}
