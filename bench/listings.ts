import type { Pool } from "pg";
import { ORGANIZATION } from "#test/e2e/gradient.ts";
import type { Figure, PartResult } from "./figures.ts";
import { makeFlake, SYSTEM } from "./flakes.ts";
import { timed } from "./measure.ts";
import { withFilledDatabase } from "./own-database.ts";
import { makeRepository } from "./repository.ts";

const PROJECTS = 1_000;
const EVALUATIONS = 100_000;
const BUILDS = 1_000_000;
const REQUESTS = 200;
const AT_ONCE = 4;
const EVALUATION_MS_MAX = 300_000;

const NOTES = [
  `\`listings\`: an organization with ${PROJECTS.toLocaleString("en-US")} projects, ` +
    `${EVALUATIONS.toLocaleString("en-US")} evaluations and ${BUILDS.toLocaleString("en-US")} builds, ten of them in ` +
    `each. ${REQUESTS} requests of each kind, ${AT_ONCE} at a time, each for another page, project or ` +
    "evaluation; server and PostgreSQL on one CPU.",
];

/** How long lists take when there is much to list. */
export async function benchListings(settings: Readonly<Record<string, string>>): Promise<PartResult> {
  let evaluations: readonly string[] = [];
  await using installation = await withFilledDatabase(settings, {
    prepare: async (gradient) => {
      const flake = makeFlake({ count: 10, work: "nothing", layers: 2 });
      const { project } = await makeRepository(gradient, "first", flake);
      const { status } = await gradient.api.waitForEnd(await gradient.api.evaluate(project), EVALUATION_MS_MAX);
      if (status !== "Completed") throw new Error(`the first evaluation ended ${status}`);
    },
    fill: async (pool) => {
      evaluations = await fill(pool);
    },
  });
  await installation.pin();
  const { api } = installation.gradient;
  const project = (n: number) => `${ORGANIZATION}/project-${1 + (n % (PROJECTS - 1))}`;
  const evaluation = (n: number) => evaluations[(n * 7_919) % evaluations.length] as string;
  const lists: Readonly<Record<string, (n: number) => string>> = {
    "projects of an organization": (n) => `/projects/${ORGANIZATION}?page=${1 + (n % 20)}`,
    "evaluations of a project": (n) => `/projects/${project(n)}/evaluations?limit=50`,
    "a project with its last evaluations": (n) => `/projects/${project(n)}/details`,
    "entry points of a project": (n) => `/projects/${project(n)}/entry-points`,
    "an evaluation": (n) => `/evals/${evaluation(n)}`,
    "builds of an evaluation": (n) => `/evals/${evaluation(n)}/builds?limit=50`,
    "messages of an evaluation": (n) => `/evals/${evaluation(n)}/messages`,
    "organizations of a user": () => "/orgs",
    "caches of a user": () => "/caches",
    "jobs that wait": () => "/board/jobs/pending",
  };
  const figures: Figure[] = [];
  for (const [what, pathOf] of Object.entries(lists)) {
    const times: number[] = [];
    for (let n = 0; n < REQUESTS; n += AT_ONCE) {
      const asked = Array.from({ length: AT_ONCE }, (_, i) => timed(() => api.request("GET", pathOf(n + i))));
      times.push(...(await Promise.all(asked)));
    }
    const p95 = times.toSorted((a, b) => a - b)[Math.floor(0.95 * times.length)] as number;
    figures.push({
      part: "listings",
      what: `${what}, p95`,
      unit: "ms",
      ours: p95,
      other: null,
      aim: { valueMax: 50 },
      samples: times.length,
    });
  }
  return { figures, notes: NOTES };
}

/** Copies of what an evaluation has left, again and again. Answers the evaluations' ids. */
async function fill(pool: Pool): Promise<string[]> {
  // Triggers that tell and count what happens would be called for each row.
  for (const table of ["evaluation", "build"]) await pool.query(`alter table ${table} disable trigger user`);
  const copy = (table: string, changes: string, from: string) =>
    pool.query(`insert into ${table} overriding user value
      select copied.* from ${from},
        lateral jsonb_populate_record(null::${table}, to_jsonb(t) || jsonb_build_object(${changes})) copied`);
  await copy(
    "project",
    "'id', gen_random_uuid(), 'name', 'project-' || n",
    `(select * from project where name = 'first') t, generate_series(1, ${PROJECTS - 1}) n`,
  );
  await copy(
    "build",
    "'id', gen_random_uuid(), 'drv_path', lpad(n::text, 32, '0') || '-b.drv', 'status', 3 + n % 2",
    `(select * from build limit 1) t, generate_series(1, ${BUILDS}) n`,
  );
  await copy(
    "evaluation",
    "'id', gen_random_uuid(), 'project_id', p.id, 'commit_hash', md5(n::text) || '00000000'",
    `(select * from evaluation limit 1) t, generate_series(1, ${EVALUATIONS / PROJECTS}) n, project p`,
  );
  await pool.query(`
    insert into evaluation_build (id, evaluation_id, build_id, outcome)
    select gen_random_uuid(), e.id, b.id, 3
    from (select id, row_number() over (order by ordinal) as n from evaluation) e
    join (select id, row_number() over (order by drv_path) as n from build) b on (b.n - 1) / 10 + 1 = e.n
    on conflict do nothing`);
  await pool.query(`
    insert into entry_point (id, evaluation_id, attribute, build_id)
    select gen_random_uuid(), evaluation_id, array['packages', '${SYSTEM}', 'a' || row_number() over (
      partition by evaluation_id order by build_id)], build_id
    from evaluation_build on conflict do nothing`);
  await pool.query("vacuum analyze");
  for (const table of ["evaluation", "build"]) await pool.query(`alter table ${table} enable trigger user`);
  const { rows } = await pool.query<{ id: string }>("select id from evaluation order by ordinal limit 20000");
  return rows.map(({ id }) => id);
}
