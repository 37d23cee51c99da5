import { MessageLevel } from "#core/domain/states.ts";
import { DomainError } from "#core/errors.ts";
import { derivedUuid } from "#core/lib/ids.ts";
import { type ByteStream, collect, LimitExceededError } from "#core/lib/streams.ts";
import { EVAL_BATCH_BYTES_MAX } from "#core/protocol/limits.ts";
import type { WorkerMessage } from "#core/protocol/worker-messages.ts";
import { recordEvaluationMessage } from "#core/services/transitions/evaluation-progress.ts";
import { ingestBatch } from "#core/services/transitions/ingest.ts";
import { type ParsedNode, parseNodes } from "#core/services/transitions/parse-nodes.ts";
import type { HubDeps } from "./deps.ts";
import type { WorkerConnection } from "./session.ts";

type EvalBatch = Extract<WorkerMessage, { type: "eval_batch" }>;
type EvalMessage = Extract<WorkerMessage, { type: "eval_message" }>;

/** Records a batch and answers it: with null, or with why the evaluation cannot go on. */
export async function receiveBatch(
  deps: HubDeps,
  connection: WorkerConnection,
  message: EvalBatch,
  content: ByteStream,
): Promise<void> {
  const answer = (error: string | null, retry = false) =>
    connection.send({ type: "eval_batch_ack", attempt: message.attempt, sequence: message.sequence, error, retry });
  try {
    const nodes = await readNodes(message, content);
    const entryPoints = message.entry_points.map(({ attribute, drv_path }) => ({
      attribute,
      drvPath: drv_path.slice("/nix/store/".length),
    }));
    const held = await ingestBatch(deps, message.attempt, { nodes, entryPoints });
    answer(held ? null : "the lease of this evaluation has ended");
  } catch (error) {
    if (connection.closed) return;
    if (error instanceof LimitExceededError)
      return answer(`the batch is larger than announced or allowed: ${error.message}`);
    if (!(error instanceof DomainError)) {
      // Unanswered: the worker sends it again on its next session.
      deps.log.error("a batch of derivations could not be recorded", { attempt: message.attempt, error });
      return connection.close(1011, "the server could not record what it was sent");
    }
    // What it rests on was changed at that moment, or is being changed.
    answer(error.message, error.code === "conflict" || error.code === "service_unavailable");
  }
}

async function readNodes(message: EvalBatch, content: ByteStream): Promise<ParsedNode[]> {
  const bytes = await collect(content, Math.min(message.content.size, EVAL_BATCH_BYTES_MAX));
  const total = message.nodes.reduce((sum, node) => sum + node.size, 0);
  if (bytes.length !== total) throw new DomainError("validation", "the batch has another size than its nodes");
  let offset = 0;
  const reported = message.nodes.map(({ drv_path, size, pruned, realisation_hash: realisationHash }) => {
    const aterm = bytes.subarray(offset, offset + size);
    offset += size;
    return { drvPath: drv_path, aterm, pruned, ...(realisationHash !== undefined && { realisationHash }) };
  });
  return await parseNodes(reported);
}

const LEVELS = { error: MessageLevel.Error, warning: MessageLevel.Warning, notice: MessageLevel.Notice } as const;

export async function receiveEvaluationMessage(deps: HubDeps, message: EvalMessage): Promise<void> {
  await recordEvaluationMessage(deps, message.attempt, {
    id: await derivedUuid(message.attempt, String(message.sequence)),
    level: LEVELS[message.level],
    text: message.message,
    source: message.source,
    attribute: message.attribute,
  });
}
