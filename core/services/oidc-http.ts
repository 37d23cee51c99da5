import type { CustomFetchOptions } from "oauth4webapi";
import { type Clock, SECOND } from "../lib/clock.ts";
import { collect } from "../lib/streams.ts";
import type { FormSender, Outbound } from "../ports/outbound.ts";

export interface OidcHttpDeps {
  readonly clock: Clock;
  readonly outbound: Outbound & FormSender;
}

/** What a person waits for at most, for each of four answers of the provider. */
const ANSWER_MS_MAX = 10 * SECOND;
/** Some ten thousand groups in a token; discovery documents and key sets have some KiB. */
const ANSWER_BYTES_MAX = 1024 * 1024;
const NULL_BODY_STATUS: readonly number[] = [101, 103, 204, 205, 304];

type Send = (url: string, options: CustomFetchOptions<string, unknown>) => Promise<Response>;

/**
 * `fetch` for the provider's addresses, by way of the dialer that knows where the server may connect to. An answer has
 * 10 s and 1 MiB as a whole. Throws `OutboundError`.
 */
export function oidcFetch({ clock, outbound }: OidcHttpDeps): Send {
  return async (url, { method, headers, body }) => {
    const tooLate = new AbortController();
    const cancel = clock.schedule(ANSWER_MS_MAX, () => tooLate.abort());
    const limits = { timeoutMs: ANSWER_MS_MAX, idleTimeoutMs: ANSWER_MS_MAX, bytesMax: ANSWER_BYTES_MAX };
    // Ours is the name that the server shows everywhere.
    const { "user-agent": _, ...sent } = headers;
    const options = { ...limits, headers: sent, signal: tooLate.signal };
    try {
      const answer =
        method === "POST" ? await outbound.postForm(url, String(body), options) : await outbound.get(url, options);
      const bytes = await collect(answer.body, ANSWER_BYTES_MAX);
      return new Response(NULL_BODY_STATUS.includes(answer.status) ? null : bytes, {
        status: answer.status < 200 || answer.status > 599 ? 502 : answer.status,
        headers: { "content-type": "application/json" },
      });
    } finally {
      cancel();
    }
  };
}
