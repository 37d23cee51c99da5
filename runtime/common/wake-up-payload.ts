import { utf8 } from "#core/lib/bytes.ts";
import { isUuid } from "#core/lib/ids.ts";
import type { Topic } from "#core/ports/notifier.ts";

/** Of NOTIFY, for all servers of one database. */
export const WAKE_UP_CHANNEL = "gradient";

export type WakeUp = readonly [topic: Topic, subject: string];

/** PostgreSQL takes less than 8,000 bytes. */
const PAYLOAD_BYTES_MAX = 7_500;
const SUBJECT_LENGTH_MAX = 200;

const TOPICS: Readonly<Record<Topic, true>> = {
  work: true,
  evaluation: true,
  log: true,
  abort: true,
  registration: true,
  path: true,
  session: true,
  damage: true,
  task: true,
  mail: true,
  uses: true,
  deployment: true,
  missed: true,
};

/** As many of the wake-ups as one NOTIFY takes; they are taken out of `pending`. `origin`: the sender's id, a UUID. */
export function takePayload(pending: Map<string, WakeUp>, origin: string): string {
  const parts: string[] = [];
  let length = origin.length + 10;
  for (const [key, wakeUp] of pending) {
    const text = JSON.stringify(wakeUp);
    length += utf8(text).length + 1;
    if (length > PAYLOAD_BYTES_MAX && parts.length > 0) break;
    parts.push(text);
    pending.delete(key);
  }
  return `["${origin}",${parts.join(",")}]`;
}

/** What others sent; nothing of our own, and nothing that this version does not know. */
export function readPayload(payload: string, ownOrigin: string): WakeUp[] {
  let parsed: unknown;
  try {
    parsed = JSON.parse(payload);
  } catch {
    return [];
  }
  const [origin, ...wakeUps] = Array.isArray(parsed) ? parsed : [];
  if (!isUuid(String(origin)) || origin === ownOrigin) return [];
  return wakeUps.filter(isWakeUp);
}

function isWakeUp(value: unknown): value is WakeUp {
  if (!Array.isArray(value) || value.length !== 2) return false;
  const [topic, subject] = value;
  return Object.hasOwn(TOPICS, String(topic)) && typeof subject === "string" && subject.length <= SUBJECT_LENGTH_MAX;
}
