import { DomainError } from "#core/errors.ts";
import { failureResponse, INTERNAL_ERROR } from "#core/http/envelope.ts";
import type { Bindings, RequestContext } from "./bindings.ts";
import { compose } from "./compose.ts";
import { deliver } from "./deliver.ts";
import { refuseElsewhere } from "./elsewhere.ts";
import { createLogger } from "./logger.ts";
import { readSettings, type Settings, SettingsError } from "./settings.ts";

const NOT_CONFIGURED = new DomainError(
  "service_unavailable",
  "This address is not set up: its log says what is missing",
);

/** What Cloudflare calls. It never throws. */
async function fetch(request: Request, bindings: Bindings, context: RequestContext): Promise<Response> {
  const settings = settingsOf(bindings);
  if (!settings) return failureResponse(NOT_CONFIGURED, { "cache-control": "no-store" });
  const log = createLogger(settings.logLevel);
  try {
    return await answer(request, settings, context);
  } catch (error) {
    log.error("request failed", { error, method: request.method, path: new URL(request.url).pathname });
    return failureResponse(INTERNAL_ERROR, { "cache-control": "no-store" });
  }
}

export default { fetch };

async function answer(request: Request, settings: Settings, context: RequestContext): Promise<Response> {
  const log = createLogger(settings.logLevel);
  const composition = await compose(settings, log);
  // Also for a client that goes away: what is begun ends, and gives back what it holds.
  const ended = Promise.withResolvers<void>();
  context.waitUntil(ended.promise);
  const end = (): void => void composition.end().then(ended.resolve);
  try {
    const made =
      (await composition.answerCache(request)) ??
      refuseElsewhere(request, settings.serveUrl) ??
      (await composition.answerApi(request));
    const { response, sent } = await deliver(made, log);
    void sent.then(end);
    return response;
  } catch (error) {
    end();
    throw error;
  }
}

/** Null, and a line in the log for each request, where the bindings are not as they must be. */
function settingsOf(bindings: Bindings): Settings | null {
  try {
    return readSettings(bindings);
  } catch (error) {
    if (!(error instanceof SettingsError)) throw error;
    createLogger("error").error("the Worker is not set up", { problems: error.message.split("\n") });
    return null;
  }
}
