import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { sql } from "kysely";
import { afterAll, beforeAll, expect, test } from "vitest";
import { localPath, narInfoText, narName } from "#test/cache/push-support.ts";
import { addOrganization, type Place, type StartedServer, WAIT, withPlace } from "./support.ts";

const TOKEN = "c2NyYXBlIG1l";

let place: Place;
beforeAll(async () => {
  place = await withPlace();
  await writeFile(join(place.folder, "metrics-token"), `${TOKEN}\n`);
});
afterAll(() => place[Symbol.asyncDispose]());

let clients = 0;

/** What was sent of NARs: how often, and how many bytes. Each time as another client of a proxy. */
async function sent(server: StartedServer): Promise<(number | undefined)[]> {
  const headers = { authorization: `Bearer ${TOKEN}`, "x-forwarded-for": `203.0.113.${++clients}` };
  const text = await (await fetch(`${server.url}/metrics`, { headers })).text();
  return ["requests", "bytes_sent"].map((what) => {
    const value = new RegExp(`^gradient_cache_nar_${what}_total (\\d+)$`, "m").exec(text)?.[1];
    return value === undefined ? undefined : Number(value);
  });
}

test("GRADIENT_METRICS_TOKEN_FILE: what caches sent is counted, and no restart or deletion shrinks it", async () => {
  const options = { GRADIENT_METRICS_TOKEN_FILE: join(place.folder, "metrics-token") };
  const path = await localPath("sent");
  let total: number[] = [];
  {
    await using server = await place.start(options);
    expect(await sent(server)).toEqual([0, 0]);
    const api = server.api();
    await api.signUp("ada");
    await addOrganization(api, "acme");
    const url = `${server.url}/cache/acme`;
    const headers = { authorization: `Bearer ${api.token}` };
    const put = (name: string, body: string | Uint8Array<ArrayBuffer>) =>
      fetch(`${url}/${name}`, { method: "PUT", headers, body });
    await put(await narName(path.nar, ".nar"), path.nar);
    const narInfo = (await narInfoText(path)).replace("Compression: xz", "Compression: none");
    expect((await put(`${path.hash}.narinfo`, narInfo.replace(".nar.xz", ".nar"))).status).toBe(200);
    const told = await (await fetch(`${url}/${path.hash}.narinfo`, { headers })).text();
    const nar = `${url}/${/^URL: (.*)$/m.exec(told)?.[1]}`;
    const size = (await (await fetch(nar, { headers })).arrayBuffer()).byteLength;
    await (await fetch(nar, { headers })).arrayBuffer();

    total = [2, 2 * size];
    await expect.poll(() => sent(server), WAIT).toEqual(total);
    await sql`delete from cache_path`.execute(place.db);
    await sql`delete from nar`.execute(place.db);
    expect(await sent(server)).toEqual(total);
  }
  await using again = await place.start(options);
  expect(await sent(again)).toEqual(total);
});
