import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { type Kysely, sql } from "kysely";
import pg from "pg";
import type { Database } from "#core/db/schema.ts";
import type { RunningPostgres } from "#runtime/node/postgres/start.ts";
import { percentile } from "./latency.ts";
import { type Phase, runScale } from "./run.ts";

// Where the time of `npm run bench -- scale` goes: one size, with what each statement cost.
//   node bench/scale/profile.ts [--nodes N] [--uploads] [--build-ms MS] [--ingest-only] [--cpu FOLDER] [--top K]

const { values } = parseArgs({
  options: {
    nodes: { type: "string", default: "10000" },
    uploads: { type: "boolean", default: false },
    "build-ms": { type: "string", default: "0" },
    "ingest-only": { type: "boolean", default: false },
    cpu: { type: "string" },
    top: { type: "string", default: "25" },
  },
});
const nodes = Number(values.nodes);
const environment = values.cpu ? { NODE_OPTIONS: `--cpu-prof --cpu-prof-dir=${values.cpu}` } : {};

/** The extension has to be loaded at the start. */
async function withStatements(first: RunningPostgres, start: () => Promise<RunningPostgres>): Promise<RunningPostgres> {
  await query(first, "alter system set shared_preload_libraries = 'pg_stat_statements'");
  await query(first, "alter system set pg_stat_statements.max = 1000");
  await first.stop();
  const second = await start();
  await query(second, "create extension pg_stat_statements");
  return second;
}

async function query({ address }: RunningPostgres, text: string): Promise<void> {
  const client = new pg.Client({ ...address, ssl: false });
  await client.connect();
  await client.query(text);
  await client.end();
}

interface StatementRow {
  readonly query: string;
  readonly calls: number;
  readonly ms: number;
  readonly rows: number;
  readonly blocks: number;
}

async function around(db: Kysely<Database>, phase: string, at: "begin" | "end"): Promise<void> {
  if (at === "begin") {
    await sql`select pg_stat_statements_reset()`.execute(db);
    return;
  }
  await sleep(100);
  const { rows } = await sql<StatementRow>`
    select query, calls::int as calls, (total_exec_time + total_plan_time)::float8 as ms, rows::int as rows,
      (shared_blks_hit + shared_blks_read)::float8 as blocks
    from pg_stat_statements order by total_exec_time desc limit ${Number(values.top)}`.execute(db);
  const all = await sql<{ calls: number; ms: number }>`
    select sum(calls)::int as calls, sum(total_exec_time + total_plan_time)::float8 as ms
    from pg_stat_statements`.execute(db);
  const { calls = 0, ms = 0 } = all.rows[0] ?? {};
  console.log(`\n${phase}: ${(calls / nodes).toFixed(2)} statements a node, ${(ms / nodes).toFixed(3)} ms a node`);
  console.log("   calls  us/call   rows/call  blocks/call  share  statement");
  for (const row of rows) {
    const text = row.query.replaceAll(/\s+/g, " ").slice(0, 110);
    const columns = [
      String(row.calls).padStart(8),
      ((row.ms / row.calls) * 1000).toFixed(0).padStart(8),
      (row.rows / row.calls).toFixed(1).padStart(11),
      (row.blocks / row.calls).toFixed(0).padStart(12),
      `${((row.ms / ms) * 100).toFixed(0)}%`.padStart(6),
    ];
    console.log(`${columns.join(" ")}  ${text}`);
  }
}

function describe(name: string, { ms, cpu, serverPeakBytes }: Phase): string {
  const each = (value: number) => `${(value / nodes).toFixed(3)} ms`;
  const rate = Math.round((nodes / ms) * 1000);
  const total = cpu.server + cpu.workers + cpu.postgres;
  const onTwoCores = Math.round((2_000 * nodes) / total);
  return (
    `${name}: ${Math.round(ms)} ms (${rate}/s); CPU a node: server ${each(cpu.server)}, ` +
    `workers ${each(cpu.workers)}, postgres ${each(cpu.postgres)}, ` +
    `all ${each(total)} ` +
    `(two cores: ${onTwoCores}/s); ` +
    `server's peak ${Math.round(serverPeakBytes / 1e6)} MB`
  );
}

const result = await runScale({
  nodes,
  ingestOnly: values["ingest-only"],
  uploads: values.uploads,
  buildMs: Number(values["build-ms"]),
  environment,
  aroundPhase: around,
  prepare: withStatements,
});
console.log(`\n${result.nodes} nodes, ${result.edges} edges`);
console.log(describe("ingest", result.ingest));
if (result.drain) console.log(describe("drain", result.drain));
const delays = [50, 90, 99, 100].map((share) => `p${share} ${percentile(result.delays, share).toFixed(1)} ms`);
console.log(`from ready and free to assigned: ${delays.join(", ")}`);
