import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { parseRepositoryUrl, RepositoryUrlError, redactUrl } from "./flake-ref.ts";

const parse = (text: string) => parseRepositoryUrl(text, { allowLocal: false });
const parseLocal = (text: string) => parseRepositoryUrl(text, { allowLocal: true });

describe("addresses of repositories", () => {
  test.each([
    ["https://example.org/owner/project.git", "https", "https://example.org/owner/project.git"],
    ["HTTPS://example.org:8443/p", "https", "https://example.org:8443/p"],
    ["http://127.0.0.1:3000/o/p", "http", "http://127.0.0.1:3000/o/p"],
    ["https://user:secret@example.org/p", "https", "https://user:secret@example.org/p"],
    ["https://[::1]/p?x=1", "https", "https://[::1]/p?x=1"],
    ["ssh://git@example.org:2222/o/p", "ssh", "ssh://git@example.org:2222/o/p"],
    ["git+https://example.org/o/p", "https", "https://example.org/o/p"],
    ["git+ssh://git@example.org/o/p", "ssh", "ssh://git@example.org/o/p"],
    ["git@example.org:owner/project.git", "git", "git@example.org:owner/project.git"],
    ["forge.user@example.org:/srv/p", "git", "forge.user@example.org:/srv/p"],
  ])("%s is accepted", (text, kind, url) => {
    expect(parse(text)).toEqual({ kind, url });
  });

  test.each([
    ["", "empty"],
    ["-oProxyCommand=touch", "dash"],
    ["--upload-pack=touch", "dash"],
    ["ssh://-oProxyCommand=touch/p", "dash"],
    ["ssh://%2doProxyCommand@example.org/p", "dash"],
    ["ssh://git@-x/p", "host"],
    ["ssh://git@example.org/-p", "dash"],
    ["ssh://git@%2dx/p", "host"],
    ["git@-host:p", "host"],
    ["git@example.org:-p", "dash"],
    ["ext::sh -c touch", "space"],
    ["ext::sh", "neither"],
    ["https://example.org/a b", "space"],
    ["https://example.org/a\nb", "space or control"],
    ["https://example.org/%0ab", "encoded control"],
    ["https://example.org\\@evil.example/p", "backslash"],
    ["https://a@b@example.org/p", "%40"],
    ["https://example.org", "no repository"],
    ["https://example.org/", "no repository"],
    ["https:///p", "host"],
    ["https://example.org:0/p", "port"],
    ["https://example.org:99999/p", "port"],
    ["https://example.org/p#main", "patterns"],
    ["git+https://example.org/p?ref=main", "plain URL"],
    ["git://example.org/p", "git:// proves nothing"],
    ["ftp://example.org/p", "only https://"],
    ["github:owner/project", "short names"],
    ["project", "neither"],
    ["./project", "neither"],
    [`https://example.org/${"x".repeat(2100)}`, "longer"],
  ])("%s is refused with the reason", (text, message) => {
    expect(() => parseLocal(text)).toThrow(message);
    expect(() => parse(text)).toThrow(RepositoryUrlError);
  });

  test("a local repository is used only where the server allows it", () => {
    for (const text of ["/srv/p", "file:///srv/p", "git+file:///srv/p"]) {
      expect(parseLocal(text)).toEqual({ kind: "file", url: "file:///srv/p" });
      expect(() => parse(text)).toThrow("not allowed");
    }
    for (const text of ["file://host/p", "//host/p", "file:////host/p"]) expect(() => parseLocal(text)).toThrow();
  });

  test("secrets do not show, neither in a URL nor in a refusal", () => {
    expect(redactUrl("https://user:secret@example.org/p")).toBe("https://***@example.org/p");
    expect(redactUrl("https://token@example.org/p")).toBe("https://***@example.org/p");
    expect(redactUrl("ssh://git@example.org/p")).toBe("ssh://git@example.org/p");
    expect(redactUrl("ssh://git:secret@example.org/p")).toBe("ssh://git:***@example.org/p");
    expect(redactUrl("https://example.org/a@b")).toBe("https://example.org/a@b");
    expect(redactUrl("git@example.org:p")).toBe("git@example.org:p");
    expect(redactUrl("from git+https://a:b@c/d to https://e:f@g/h")).toBe(
      "from git+https://***@c/d to https://***@g/h",
    );
    try {
      parse("https://user:secret@example.org:0/p");
      expect.unreachable("a port of 0 was accepted");
    } catch (error) {
      expect(String(error)).not.toContain("secret");
    }
  });

  test("any text is refused by the parser's own error, or free of what git could misread", () => {
    const anyText = fc
      .tuple(fc.constantFrom("https://", "ssh://", "git@", "git+ssh://", "file://", "/", ""), fc.string())
      .map(([start, rest]) => start + rest);
    fc.assert(
      fc.property(anyText, (text) => {
        try {
          const { url } = parseLocal(text);
          expect(url).toMatch(/^(https?|ssh|file):\/\/[^\s-]|^[^-\s][^\s@]*@[^-\s]/);
          expect(parseLocal(url).url).toBe(url);
        } catch (error) {
          if (!(error instanceof RepositoryUrlError)) throw error;
        }
      }),
      { numRuns: 3000 },
    );
  });
});

test("parameters of a flake are refused with what is expected instead, those of a forge are not", () => {
  for (const parameter of ["dir=sub", "submodules=1", "x=y&lfs=1", "ref=main"]) {
    const parse = () => parseRepositoryUrl(`https://example.org/repository?${parameter}`, { allowLocal: false });
    expect(parse, parameter).toThrow("write the plain URL. The flake is at the top of the default branch");
  }
  expect(() => parseRepositoryUrl("https://example.org/git?p=repository.git", { allowLocal: false })).not.toThrow();
});
