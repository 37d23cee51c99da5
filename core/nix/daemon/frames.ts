import { DaemonError, DaemonProtocolError } from "./errors.ts";
import type { DaemonEvent, DaemonEventHandler, EventField } from "./events.ts";
import {
  ANSWER_BYTES_MAX,
  ERROR_TEXT_BYTES_MAX,
  FIELDS_MAX,
  FRAME_BYTES_MAX,
  LOG_TEXT_BYTES_MAX,
  TRACES_MAX,
} from "./limits.ts";
import { logLineFrames } from "./log-line-frames.ts";
import { FrameCode } from "./numbers.ts";
import type { DaemonReader } from "./reader.ts";

export type Frame = DaemonEvent | { readonly kind: "last" } | { readonly kind: "error"; readonly error: DaemonError };

/** Reads the frames before an answer, handing events on in order. Throws `DaemonError` when the request failed. */
export async function readUntilAnswer(reader: DaemonReader, onEvent?: DaemonEventHandler): Promise<void> {
  for (;;) {
    if (onEvent) await handleLogLines(reader, onEvent);
    const frame = await readFrame(reader);
    if (frame.kind === "error") throw frame.error;
    if (frame.kind === "last") break;
    await onEvent?.(frame);
  }
  reader.allow(ANSWER_BYTES_MAX);
}

async function handleLogLines(reader: DaemonReader, onEvent: DaemonEventHandler): Promise<void> {
  let handledBytes = 0;
  try {
    for (const { event, end } of logLineFrames(reader.arrived)) {
      handledBytes = end;
      const handled = onEvent(event);
      if (handled) await handled;
    }
  } finally {
    reader.skipArrived(handledBytes);
  }
}

export async function readFrame(reader: DaemonReader): Promise<Frame> {
  reader.allow(FRAME_BYTES_MAX);
  return await readFrameBody(reader, await reader.word());
}

/** For the one place where a frame may stand instead of data (the answer to NarFromPath): its code was read already. */
export async function readFrameBody(reader: DaemonReader, code: bigint): Promise<Frame> {
  switch (code) {
    case FrameCode.last:
      return { kind: "last" };
    case FrameCode.error:
      return { kind: "error", error: await readError(reader) };
    case FrameCode.message:
      return { kind: "message", text: await reader.displayText("message", LOG_TEXT_BYTES_MAX) };
    case FrameCode.startActivity:
      return {
        kind: "start",
        id: await reader.word(),
        level: await reader.number("activity level"),
        type: await reader.number("activity type"),
        text: await reader.displayText("activity text", LOG_TEXT_BYTES_MAX),
        fields: await readFields(reader),
        parent: await reader.word(),
      };
    case FrameCode.stopActivity:
      return { kind: "stop", id: await reader.word() };
    case FrameCode.result:
      return {
        kind: "result",
        id: await reader.word(),
        type: await reader.number("result type"),
        fields: await readFields(reader),
      };
    default:
      throw new DaemonProtocolError(`0x${code.toString(16)} is not a frame that may stand here`);
  }
}

function readFields(reader: DaemonReader): Promise<EventField[]> {
  return reader.list("fields", () => readField(reader), FIELDS_MAX);
}

async function readField(reader: DaemonReader): Promise<EventField> {
  const type = await reader.number("field type");
  // Progress counters may be any 64 bits; above 2^53 the last digits do not matter.
  if (type === 0) return Number(await reader.word());
  if (type === 1) return await reader.displayText("field", LOG_TEXT_BYTES_MAX);
  throw new DaemonProtocolError(`field type ${type} is unknown`);
}

async function readError(reader: DaemonReader): Promise<DaemonError> {
  await reader.displayText("error type", LOG_TEXT_BYTES_MAX);
  const level = await reader.number("error level");
  await reader.displayText("error name", LOG_TEXT_BYTES_MAX);
  const message = await reader.displayText("error message", ERROR_TEXT_BYTES_MAX);
  await refusePosition(reader);
  const traces = await reader.list("traces", () => readTrace(reader), TRACES_MAX);
  return new DaemonError({ level, message, traces });
}

async function readTrace(reader: DaemonReader): Promise<string> {
  await refusePosition(reader);
  return await reader.displayText("trace", LOG_TEXT_BYTES_MAX);
}

/** No Nix sends positions, and their form is not written down. */
async function refusePosition(reader: DaemonReader): Promise<void> {
  if (await reader.boolean("position")) throw new DaemonProtocolError("an error carries a source position");
}
