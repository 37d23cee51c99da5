import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import type { Pool } from "pg";
import { argon2Hasher } from "#runtime/node/password-hasher.ts";
import type { PartResult } from "./figures.ts";
import { requestsPerSecond } from "./load.ts";
import { interleave } from "./measure.ts";
import { withFilledDatabase } from "./own-database.ts";

/** As login.lua names and signs them in. */
const PEOPLE = 32;
const PASSWORD = "Tr0ub4dor&3x";
const SCRIPT = new URL("login.lua", import.meta.url).pathname;
const ROUNDS = 3;
const SECONDS = 5;
const CONNECTIONS = 8;

const NOTES = [
  `\`login\`: \`wrk -t1 -c${CONNECTIONS}\` signs ${PEOPLE} people in by their passwords, each time with a session ` +
    "and a record in the audit log. Instead: a Node process that does nothing but verify such a password (Argon2id, " +
    "the same parameters and as many at a time: all processors but one, three at most). Both have all CPUs.",
];

/** How many people sign in a second, beside how many passwords can be verified. */
export async function benchLogin(settings: Readonly<Record<string, string>>): Promise<PartResult> {
  const stored = await argon2Hasher.hash(PASSWORD);
  await using installation = await withFilledDatabase(settings, { fill: (pool) => fill(pool, stored) });
  await using bare = await startBare(stored);
  const url = `${installation.gradient.url}/api/v1/auth/basic/login`;
  const signIn = (seconds: number) =>
    requestsPerSecond({ url, seconds, connections: CONNECTIONS, status: 200, script: SCRIPT });
  await signIn(6);
  const { ours, verified } = await interleave(ROUNDS, {
    ours: () => signIn(SECONDS),
    verified: () => bare.verificationsPerSecond(SECONDS),
  });
  return {
    figures: [
      {
        part: "login",
        what: "sign-ins by password",
        unit: "/s",
        ours,
        other: { name: "Argon2id alone", value: verified },
        aim: { ratioMin: 0.85 },
        samples: ROUNDS,
      },
    ],
    notes: NOTES,
  };
}

async function fill(pool: Pool, stored: string): Promise<void> {
  await pool.query(
    `insert into user_account (id, username, name, email, password_hash, email_verified)
    select gen_random_uuid(), 'person-' || n, 'Person', 'person-' || n || '@example.com', $1, true
    from generate_series(0, ${PEOPLE - 1}) n`,
    [stored],
  );
}

interface BareHasher extends AsyncDisposable {
  verificationsPerSecond(seconds: number): Promise<number>;
}

async function startBare(stored: string): Promise<BareHasher> {
  const child: ChildProcess = fork(new URL("argon2-process.ts", import.meta.url), [stored, PASSWORD]);
  const ended = once(child, "exit");
  const answer = async (): Promise<unknown> => {
    const [message] = await Promise.race([
      once(child, "message"),
      ended.then(([code]) => Promise.reject(new Error(`the process that verifies passwords ended with ${code}`))),
    ]);
    return message;
  };
  await answer();
  return {
    verificationsPerSecond: async (seconds) => {
      child.send(seconds);
      return (await answer()) as number;
    },
    [Symbol.asyncDispose]: async () => {
      child.kill("SIGTERM");
      await ended;
    },
  };
}
