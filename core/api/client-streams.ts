/** A longer line is no value of this API. */
const LINE_CHARACTERS_MAX = 64 * 1024 * 1024;

/** The values of an answer that is a stream: one a line, or one an event. */
export async function* readItems(response: Response): AsyncGenerator<unknown> {
  const type = response.headers.get("content-type") ?? "";
  if (!type.startsWith("text/event-stream")) {
    for await (const line of readLines(response)) if (line !== "") yield JSON.parse(line);
    return;
  }
  // HTML Living Standard section 9.2.6: the lines of one event's data are joined, an empty line ends it.
  let data: string[] = [];
  for await (const line of readLines(response)) {
    if (line.startsWith("data:")) data.push(line.slice(line.startsWith("data: ") ? 6 : 5));
    else if (line === "" && data.length > 0) {
      yield JSON.parse(data.join("\n"));
      data = [];
    }
  }
}

async function* readLines(response: Response): AsyncGenerator<string> {
  if (!response.body) return;
  const reader = response.body.getReader();
  const decoder = new TextDecoder();
  let rest = "";
  try {
    for (let part = await reader.read(); !part.done; part = await reader.read()) {
      const lines = (rest + decoder.decode(part.value, { stream: true })).split("\n");
      rest = lines.pop() ?? "";
      if (rest.length > LINE_CHARACTERS_MAX) throw new Error("the answer holds a line without an end");
      for (const line of lines) yield line.endsWith("\r") ? line.slice(0, -1) : line;
    }
    if (rest + decoder.decode() !== "") yield rest;
  } finally {
    await reader.cancel().catch(() => {});
  }
}
