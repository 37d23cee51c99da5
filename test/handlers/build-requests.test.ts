import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { insertCache } from "#core/db/caches.ts";
import { concatBytes, toHex, utf8 } from "#core/lib/bytes.ts";
import { readNar } from "#core/nix/nar-reader.ts";
import { tidyBuildRequests } from "#core/services/build-requests-tidy.ts";
import { makeCacheKey } from "#core/services/cache-key.ts";
import { nodeHasher } from "#runtime/node/hasher.ts";
import { type BuildsApi, withBuildsApi } from "../support/builds-api.ts";
import { newId } from "../support/rows.ts";
import type { TestUser } from "./support.ts";

let api: BuildsApi;
beforeAll(async () => {
  api = await withBuildsApi();
  const id = newId();
  const keys = await makeCacheKey(api.deps, id, "acme-internal");
  const store = { id, kind: 1, organization_id: api.organizationId, display_name: "", description: "", ...keys };
  await insertCache(api.db, store);
});
afterAll(() => api[Symbol.asyncDispose]());

interface Content {
  readonly path: string;
  readonly text: string;
  readonly kind?: string;
}

async function hashOf(text: string): Promise<string> {
  const hash = await nodeHasher.blake3();
  hash.update(utf8(text));
  return toHex(hash.digest());
}

async function manifestOf(files: readonly Content[], organization = "acme"): Promise<unknown> {
  const entries = files.map(async ({ path, text, kind }) => ({
    path,
    hash: await hashOf(text),
    size: utf8(text).length,
    ...(kind === undefined ? {} : { kind }),
  }));
  return { organization, files: await Promise.all(entries) };
}

async function open(files: readonly Content[], user: TestUser = api.writer): Promise<string> {
  const { status, message } = await api.ask("POST", "/build-requests/manifest", user, await manifestOf(files));
  expect({ status, message }).toMatchObject({ status: 200 });
  return message.session;
}

async function send(session: string, texts: readonly string[], user: TestUser = api.writer) {
  const form = new FormData();
  for (const text of texts) form.append(await hashOf(text), new Blob([text]), "content");
  return await post(`/build-requests/${session}/blobs`, form, user);
}

async function post(path: string, body: FormData | Uint8Array<ArrayBuffer>, user: TestUser, method = "POST") {
  const response = await api.fetch(method, path, user, { rawBody: body });
  const text = await response.text();
  const { code, message } = JSON.parse(text);
  return { status: response.status, code, message, headers: response.headers };
}

let sequence = 0;
let flake: string;
beforeEach(() => {
  flake = `{ outputs = _: { number = ${sequence++}; }; }`;
});

async function evaluationOf(id: string) {
  return await api.db.selectFrom("evaluation").selectAll().where("id", "=", id).executeTakeFirstOrThrow();
}

/** The files of a stored source by their paths. */
async function storedTree(path: string): Promise<Record<string, string>> {
  const row = await api.db
    .selectFrom("cache_path")
    .innerJoin("nar", "nar.nar_hash", "cache_path.nar_hash")
    .select("nar.object_key")
    .where("store_path", "=", path.slice("/nix/store/".length))
    .executeTakeFirstOrThrow();
  const blob = await api.deps.blobs.get(row.object_key);
  const nar = api.deps.codec.decompress("zstd", (blob as NonNullable<typeof blob>).body);
  const tree: Record<string, string> = {};
  const folders: string[] = [];
  let file = "";
  for await (const event of readNar(nar as NonNullable<typeof nar>)) {
    if (event.kind === "directory") folders.push(event.name);
    else if (event.kind === "directoryEnd") folders.pop();
    else if (event.kind === "symlink") tree[[...folders, event.name].join("/")] = `-> ${event.target}`;
    else if (event.kind === "file") {
      file = [...folders, event.name].join("/") + (event.executable ? "*" : "");
      tree[file] = "";
    } else tree[file] += new TextDecoder().decode(event.bytes);
  }
  return tree;
}

test("a source is sent file by file, and only what the organization does not have yet", async () => {
  const shared = `shared by two requests ${flake}`;
  const files = [
    { path: "flake.nix", text: flake },
    { path: "bin/run", text: "#!/bin/sh\n", kind: "executable" },
    { path: "bin-old/notes", text: shared },
    { path: "link", text: "bin/run", kind: "symlink" },
  ];
  const session = await open(files);
  expect(await send(session, [flake, "#!/bin/sh\n"])).toMatchObject({ message: { uploaded: 2, remaining: 2 } });
  const early = await api.ask("POST", `/build-requests/${session}/dispatch`, api.writer, {});
  expect(early).toMatchObject({ status: 409, code: "conflict" });
  expect(await send(session, [shared, "bin/run"])).toMatchObject({ message: { uploaded: 2, remaining: 0 } });

  const dispatched = await api.ask("POST", `/build-requests/${session}/dispatch`, api.writer, {
    target: ".#packages.x86_64-linux.hello",
    input_overrides: [{ input_name: "nixpkgs", url: "github:NixOS/nixpkgs/nixos-unstable" }],
  });
  expect(dispatched).toMatchObject({ status: 200, message: { commit: "0".repeat(40) } });
  const evaluation = await evaluationOf(dispatched.message.evaluation);
  expect(evaluation).toMatchObject({
    wildcard: "packages.x86_64-linux.hello",
    commit_hash: "0".repeat(40),
    started_by: api.writer.id,
    project_id: dispatched.message.project,
    input_overrides: [{ input: "nixpkgs", url: "github:NixOS/nixpkgs/nixos-unstable" }],
  });
  expect(evaluation.repository).toMatch(/^\/nix\/store\/[0-9a-z]{32}-source$/);
  expect(evaluation.commit_message).toBe(`Source ${evaluation.repository.slice("/nix/store/".length)}`);
  expect(await storedTree(evaluation.repository)).toEqual({
    "/flake.nix": flake,
    "/bin/run*": "#!/bin/sh\n",
    "/bin-old/notes": shared,
    "/link": "-> bin/run",
  });

  const again = await api.ask("POST", `/build-requests/${session}/dispatch`, api.writer, {});
  expect(again).toMatchObject({ status: 409, message: expect.stringContaining(dispatched.message.evaluation) });
  const next = await api.ask(
    "POST",
    "/build-requests/manifest",
    api.writer,
    await manifestOf([{ path: "a", text: shared }]),
  );
  expect(next.message.missing).toEqual([]);
});

test("a manifest that is no tree is refused with the file that is wrong", async () => {
  const wrong: readonly [readonly Content[], string][] = [
    [[], "name at least one"],
    [[{ path: "/etc/passwd", text: "" }], "relative"],
    [[{ path: "a/../b", text: "" }], ".. part"],
    [[{ path: "a//b", text: "" }], "empty"],
    [[{ path: "./a", text: "" }], ". or .."],
    [
      [
        { path: "a", text: "" },
        { path: "a", text: "" },
      ],
      "named twice",
    ],
    [
      [
        { path: "a-b", text: "" },
        { path: "a/c", text: "" },
        { path: "a", text: "" },
      ],
      "is a file, not a folder",
    ],
    [[{ path: "x".repeat(256), text: "" }], "longer than 255 bytes"],
    [[{ path: "l", text: "", kind: "symlink" }], "target has 1 to"],
  ];
  for (const [files, words] of wrong) {
    const answer = await api.ask("POST", "/build-requests/manifest", api.writer, await manifestOf(files));
    expect(answer).toMatchObject({ status: 400, message: expect.stringContaining(words) });
  }
  const body = { organization: "acme", files: [{ path: "a\0b", hash: "0".repeat(64), size: 1 }] };
  expect(await api.ask("POST", "/build-requests/manifest", api.writer, body)).toMatchObject({ status: 400 });
  const badHash = { organization: "acme", files: [{ path: "a", hash: "A".repeat(64), size: 1 }] };
  expect(await api.ask("POST", "/build-requests/manifest", api.writer, badHash)).toMatchObject({ status: 400 });
  const negative = { organization: "acme", files: [{ path: "a", hash: "0".repeat(64), size: -1 }] };
  expect(await api.ask("POST", "/build-requests/manifest", api.writer, negative)).toMatchObject({ status: 400 });
  const huge = { organization: "acme", files: [{ path: "a", hash: "0".repeat(64), size: 2 ** 40 }] };
  expect(await api.ask("POST", "/build-requests/manifest", api.writer, huge)).toMatchObject({ status: 413 });
});

test("contents that are not what their name says are refused, and nothing of them is kept", async () => {
  const session = await open([{ path: "flake.nix", text: flake }]);
  const form = new FormData();
  form.append(await hashOf(flake), new Blob([flake.replace("number", "nombre")]), "content");
  expect(await post(`/build-requests/${session}/blobs`, form, api.writer)).toMatchObject({
    status: 400,
    message: expect.stringContaining("is another one: its hash is"),
  });
  expect(await send(session, ["not of this request"])).toMatchObject({
    status: 400,
    message: expect.stringContaining("is no hash of the manifest"),
  });
  const longer = new FormData();
  longer.append(await hashOf(flake), new Blob([`${flake} and more`]), "content");
  expect(await post(`/build-requests/${session}/blobs`, longer, api.writer)).toMatchObject({
    message: expect.stringContaining(`larger than ${flake.length} bytes`),
  });
  expect(await post(`/build-requests/${session}/blobs`, new FormData(), api.writer)).toMatchObject({ status: 400 });
  expect(await send(session, [flake])).toMatchObject({ message: { remaining: 0 } });
});

test("a request is seen by who opened it alone, and ends after an hour", async () => {
  const session = await open([{ path: "flake.nix", text: flake }]);
  expect(await send(session, [flake], api.admin)).toMatchObject({ status: 404 });
  expect(await send(session, [flake], api.stranger)).toMatchObject({ status: 404 });
  const viewer = await api.ask(
    "POST",
    "/build-requests/manifest",
    api.viewer,
    await manifestOf([{ path: "a", text: "" }]),
  );
  expect(viewer).toMatchObject({ status: 403 });
  const stranger = await api.ask(
    "POST",
    "/build-requests/manifest",
    api.stranger,
    await manifestOf([{ path: "a", text: "" }]),
  );
  expect(stranger).toMatchObject({ status: 404 });

  await api.db
    .updateTable("build_request")
    .set({ expires_at: new Date(0) })
    .where("id", "=", session)
    .execute();
  expect(await send(session, [flake])).toMatchObject({ status: 410, code: "gone" });
});

test("two who dispatch one request at once make one evaluation", async () => {
  const session = await open([{ path: "flake.nix", text: flake }]);
  await send(session, [flake]);
  const answers = await Promise.all(
    [1, 2, 3].map(() => api.ask("POST", `/build-requests/${session}/dispatch`, api.writer, {})),
  );
  expect(answers.map(({ status }) => status).sort()).toEqual([200, 409, 409]);
});

test("a content that the storage lost is asked for again", async () => {
  const session = await open([{ path: "flake.nix", text: flake }]);
  await send(session, [flake]);
  const rows = await api.db.selectFrom("source_blob").select("object_key").execute();
  for (const { object_key } of rows) await api.deps.blobs.delete(object_key);
  const lost = await api.ask("POST", `/build-requests/${session}/dispatch`, api.writer, {});
  expect(lost).toMatchObject({ status: 409, message: expect.stringContaining("was lost") });
  const again = await api.ask(
    "POST",
    "/build-requests/manifest",
    api.writer,
    await manifestOf([{ path: "flake.nix", text: flake }]),
  );
  expect(again.message.missing).toHaveLength(1);
});

/** A NAR of one file, as `nix-store --dump` writes it. */
function narOf(text: string): Uint8Array {
  const token = (value: string | Uint8Array) => {
    const bytes = typeof value === "string" ? utf8(value) : value;
    const length = new Uint8Array(8);
    new DataView(length.buffer).setUint32(0, bytes.length, true);
    return concatBytes([length, bytes, new Uint8Array((8 - (bytes.length % 8)) % 8)]);
  };
  const words = ["nix-archive-1", "(", "type", "directory", "entry", "(", "name", "flake.nix", "node", "(", "type"];
  return concatBytes([...words, "regular", "contents", text, ")", ")", ")"].map(token));
}

test("a source is sent as one NAR, whole or in parts that go on after a break", async () => {
  const nar = narOf(flake);
  const form = new FormData();
  form.append("nar", new Blob([new Uint8Array(nar)]), "source.nar");
  const whole = await post("/build-requests/source?organization=acme&target=checks.*", form, api.writer);
  expect(whole).toMatchObject({ status: 200 });
  const evaluation = await evaluationOf(whole.message.evaluation);
  expect(evaluation.wildcard).toBe("checks.*");
  expect(await storedTree(evaluation.repository)).toEqual({ "/flake.nix": flake });

  const upload = `/build-requests/source/${crypto.randomUUID()}`;
  const part = (offset: number, end?: number) =>
    post(`${upload}/chunk?offset=${offset}`, new Uint8Array(nar.subarray(offset, end)), api.writer, "PUT");
  expect(await part(0, 100)).toMatchObject({ message: { received: 100 } });
  const repeated = await part(0, 100);
  expect(repeated).toMatchObject({ status: 409, message: expect.stringContaining("has 100 bytes") });
  expect(repeated.headers.get("upload-offset")).toBe("100");
  expect(await part(100)).toMatchObject({ message: { received: nar.length } });
  const foreign = await api.ask("POST", `${upload}/finalize?organization=acme`, api.admin, {});
  expect(foreign).toMatchObject({ status: 404 });
  const done = await api.ask("POST", `${upload}/finalize?organization=acme`, api.writer, {});
  expect((await evaluationOf(done.message.evaluation)).repository).toBe(evaluation.repository);
  const again = await api.ask("POST", `${upload}/finalize?organization=acme`, api.writer, {});
  expect(again).toMatchObject({ status: 404 });
});

test("two who finish one upload at once make one evaluation", async () => {
  const upload = `/build-requests/source/${crypto.randomUUID()}`;
  await post(`${upload}/chunk?offset=0`, new Uint8Array(narOf(flake)), api.writer, "PUT");
  const finish = () => api.ask("POST", `${upload}/finalize?organization=acme`, api.writer, {});
  const answers = await Promise.all([finish(), finish(), finish()]);
  expect(answers.filter(({ status }) => status === 200)).toHaveLength(1);
  expect(answers.map(({ status }) => [200, 404, 409].includes(status))).toEqual([true, true, true]);
});

test("uploads that one person begins all at once are as few as may be", async () => {
  const ids = Array.from({ length: 20 }, () => crypto.randomUUID());
  const part = new Uint8Array(narOf(flake).subarray(0, 100));
  const begin = (id: string) => post(`/build-requests/source/${id}/chunk?offset=0`, part, api.writer, "PUT");
  const answers = await Promise.all(ids.map(begin));
  expect(answers.map(({ status }) => status).sort()).toEqual([...Array(16).fill(200), ...Array(4).fill(429)]);
  const open = await api.db.selectFrom("source_upload").select("id").execute();
  expect(open).toHaveLength(16);
  await api.db.deleteFrom("source_upload").execute();
});

test("what is no NAR, or larger than the server takes, is refused and nothing of it stays", async () => {
  const keys = () => api.db.selectFrom("source_upload").select("id").execute();
  const before = await keys();
  const form = new FormData();
  form.append("nar", new Blob(["certainly no NAR, whatever one thinks of it"]), "source.nar");
  expect(await post("/build-requests/source?organization=acme", form, api.writer)).toMatchObject({
    status: 400,
    message: expect.stringContaining("is no NAR"),
  });
  const other = new FormData();
  other.append("tar", new Blob(["x"]), "source.tar");
  expect(await post("/build-requests/source?organization=acme", other, api.writer)).toMatchObject({
    status: 400,
    message: expect.stringContaining("no part `nar`"),
  });
  const large = new FormData();
  large.append("nar", new Blob([new Uint8Array(api.deps.sourceBytesMax + 1)]), "source.nar");
  expect(await post("/build-requests/source?organization=acme", large, api.writer)).toMatchObject({ status: 413 });
  const upload = `/build-requests/source/${crypto.randomUUID()}/chunk?offset=0`;
  expect(await post(upload, new Uint8Array(0), api.writer, "PUT")).toMatchObject({ status: 400 });
  expect(await keys()).toEqual(before);
  const json = await api.ask("POST", "/build-requests/source?organization=acme", api.writer, {});
  expect(json).toMatchObject({ status: 415 });
});

test("patterns and overrides that no evaluation could go by are refused before anything is stored", async () => {
  const session = await open([{ path: "flake.nix", text: flake }]);
  await send(session, [flake]);
  const refused = (body: unknown) => api.ask("POST", `/build-requests/${session}/dispatch`, api.writer, body);
  expect(await refused({ target: "packages..x" })).toMatchObject({ status: 400, code: "validation" });
  const local = { input_overrides: [{ input_name: "nixpkgs", url: "path:/etc" }] };
  expect(await refused(local)).toMatchObject({ status: 400, message: expect.stringContaining("nixpkgs") });
  expect(await refused({})).toMatchObject({ status: 200 });
});

test("the project of build requests is nobody's to change, and is not said to be declared somewhere", async () => {
  const body = { description: "mine" };
  const answer = await api.ask("PATCH", "/projects/acme/build-request", api.writer, body);
  expect([answer.status, answer.message]).toEqual([403, expect.stringContaining("the server's own")]);
});

test("an organization that hides build requests does not list their project", async () => {
  const names = async () => {
    const { message } = await api.ask("GET", "/projects/acme", api.writer);
    return message.items.map(({ name }: { name: string }) => name);
  };
  expect(await names()).toContain("build-request");
  await api.db.updateTable("organization").set({ hide_build_requests: true }).where("name", "=", "acme").execute();
  expect(await names()).not.toContain("build-request");
});

test("what nobody went on with is forgotten, objects and all; what is in use stays", async () => {
  const session = await open([{ path: "flake.nix", text: flake }]);
  await send(session, [flake]);
  const upload = crypto.randomUUID();
  const nar = new Uint8Array(narOf(flake));
  await post(`/build-requests/source/${upload}/chunk?offset=0`, nar, api.writer, "PUT");
  const blob = api.db.selectFrom("source_blob").select("object_key").where("size", "=", flake.length);
  const [{ object_key: content }] = (await blob.execute()) as [{ object_key: string }];
  const part = api.db.selectFrom("source_upload_part").select("object_key").where("upload_id", "=", upload);
  const { object_key: staged } = await part.executeTakeFirstOrThrow();

  await tidyBuildRequests(api.deps);
  expect(await api.deps.blobs.head(content)).not.toBeNull();
  expect(await api.deps.blobs.head(staged)).not.toBeNull();

  await api.db
    .updateTable("build_request")
    .set({ expires_at: new Date(0) })
    .execute();
  await api.db
    .updateTable("source_blob")
    .set({ last_used_at: new Date(0) })
    .execute();
  await api.db
    .updateTable("source_upload")
    .set({ last_used_at: new Date(0) })
    .execute();
  await tidyBuildRequests(api.deps);
  expect(await api.deps.blobs.head(content)).toBeNull();
  expect(await api.deps.blobs.head(staged)).toBeNull();
  expect(await send(session, [flake])).toMatchObject({ status: 404 });
});

test("the hash of contents is BLAKE3", async () => {
  expect(await hashOf("")).toBe("af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262");
});
