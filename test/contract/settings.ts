import { insertCache } from "#core/db/caches.ts";
import { toHex, utf8 } from "#core/lib/bytes.ts";
import { encodeBase32 } from "#core/nix/base32.ts";
import { makeCacheKey } from "#core/services/cache-key.ts";
import { nodeHasher } from "#runtime/node/hasher.ts";
import type { TestApp } from "#test/handlers/support.ts";
import { newId } from "#test/support/rows.ts";
import { makeSession } from "#test/support/session.ts";
import { BLOB, BLOCKED, STORE_PATH, WORKER_ID } from "./names.ts";
import type { People } from "./people.ts";

/** What is made through the API: workers, flake inputs, pins, keys and tasks. */
export async function makeSettings(app: TestApp, { admin, superuser }: People): Promise<Record<string, string>> {
  const ask = async (method: string, path: string, body: unknown, token = admin.token): Promise<unknown> => {
    const answer = await app.ask(method, path, { token, body });
    if (answer.status >= 300) throw new Error(`${method} ${path}: ${answer.text}`);
    return answer.body.message;
  };
  await ask("POST", "/orgs/acme/workers", { worker_id: WORKER_ID, display_name: "Builder" });
  const input = (await ask("POST", "/projects/acme/site/flake-inputs", { input_name: "nixpkgs" })) as { id: string };
  for (let revision = 1; revision <= 2; revision++) {
    await ask("PUT", "/caches/depot/pins/release", { store_path: STORE_PATH, keep_revisions: 2 });
  }
  const trigger = (await ask("POST", "/projects/acme/site/triggers", { config: { type: "polling" } })) as {
    id: string;
  };
  const config = { type: "send_web_request", url: "https://hooks.example.com/" };
  const { action } = (await ask("POST", "/projects/acme/site/actions", { name: "tell", config })) as {
    action: { id: string };
  };
  const forge = { name: "forge", kind: "inbound", forge_type: "gitea", secret: "a secret of a forge" };
  const integration = (await ask("PUT", "/orgs/acme/integrations", forge)) as string;
  const role = { name: "spare", permissions: ["viewOrg"] };
  const spareRole = (await ask("POST", "/orgs/acme/roles", role)) as { id: string };
  const cacheRole = { name: "spare", permissions: ["viewCache"] };
  const spareCacheRole = (await ask("POST", "/caches/depot/roles", cacheRole)) as { id: string };
  const [upstream] = (await ask("GET", "/caches/depot/upstreams", undefined)) as [{ id: string }];
  const [key] = (await ask("GET", "/caches/depot/keys", undefined)) as [{ id: string }];
  const task = (await ask("POST", "/admin/maintenance/repair", {}, superuser.token)) as { task_id: string };
  const apiKey = { name: "own", permissions: ["viewOrg"] };
  await ask("POST", "/user/keys", apiKey);
  const [own] = (await ask("GET", "/user/keys", undefined)) as [{ id: string }];
  await ask("PUT", `/caches/depot/blocked/${BLOCKED}`, { reason: "not wanted" });
  return {
    input: input.id,
    trigger: trigger.id,
    action: action.id,
    delivery: await insertDelivery(app, action.id),
    integration,
    spareRole: spareRole.id,
    spareCacheRole: spareCacheRole.id,
    upstream: upstream.id,
    cacheKey: key.id,
    key: own.id,
    task: task.task_id,
  };
}

async function insertDelivery({ db }: TestApp, action_id: string): Promise<string> {
  const id = newId();
  const facts = JSON.stringify({});
  const done = { delivered_at: new Date(), success: true, response_status: 204, response_body: "", duration_ms: 7 };
  await db
    .insertInto("action_delivery")
    .values({ id, action_id, event: "evaluation.completed", facts, ...done })
    .execute();
  return id;
}

/** A source of which one file is still to be sent, and the place of one that is sent in parts. */
export async function makeRequest(app: TestApp, { admin }: People): Promise<Record<string, string>> {
  const { id } = await app.db
    .selectFrom("organization")
    .select("id")
    .where("name", "=", "acme")
    .executeTakeFirstOrThrow();
  const store = { id: newId(), kind: 1, organization_id: id, display_name: "", description: "" };
  await insertCache(app.db, { ...store, ...(await makeCacheKey(app.deps, store.id, "acme-internal")) });
  const open = async (text: string): Promise<{ session: string; hash: string }> => {
    const hash = await blobHashOf(text);
    const body = { organization: "acme", files: [{ path: "flake.nix", hash, size: text.length }] };
    const { message } = (await app.ask("POST", "/build-requests/manifest", { token: admin.token, body })).body;
    return { hash, session: (message as { session: string }).session };
  };
  const [waiting, complete] = [await open(BLOB), await open("{ }")];
  const form = new FormData();
  form.append(complete.hash, new Blob(["{ }"]), "content");
  const address = `http://127.0.0.1:3000/api/v1/build-requests/${complete.session}/blobs`;
  await app.app.request(address, { method: "POST", body: form, headers: { authorization: `Bearer ${admin.token}` } });
  return { request: waiting.session, complete: complete.session, blob: waiting.hash, upload: newId() };
}

/** A path that is pushed: a NAR of one file, which is text, and what a narinfo says of it. */
export async function makeUpload(): Promise<Record<string, string>> {
  const word = (text: string) =>
    `${String.fromCharCode(text.length)}${"\0".repeat(7)}${text.padEnd(8 * Math.ceil(text.length / 8), "\0")}`;
  const nar = ["nix-archive-1", "(", "type", "regular", "contents", "a thing\n", ")"].map(word).join("");
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", utf8(nar)));
  const store_path = `/nix/store/${"4".repeat(32)}-thing`;
  const narInfo = { store_path, nar_hash: `sha256:${encodeBase32(digest)}`, nar_size: nar.length };
  return { nar, narInfo: JSON.stringify(narInfo) };
}

async function blobHashOf(text: string): Promise<string> {
  const hash = await nodeHasher.blake3();
  hash.update(utf8(text));
  return toHex(hash.digest());
}

/** Another session of the admin, and a device that asks to be let in. */
export async function makeSessions(app: TestApp, { admin }: People): Promise<Record<string, string>> {
  await makeSession(app.deps, admin.id, "another");
  const session = await app.db
    .selectFrom("session")
    .select("id")
    .where("user_id", "=", admin.id)
    .where("user_agent", "=", "another")
    .executeTakeFirstOrThrow();
  const started = (await app.ask("POST", "/auth/cli/start")).body.message as { device_code: string; user_code: string };
  return { session: session.id, deviceCode: started.device_code, userCode: started.user_code };
}

/** The first 128 bits of a commit's hash. */
export function commitIdOf(hash: string): string {
  return hash.slice(0, 32).replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}
