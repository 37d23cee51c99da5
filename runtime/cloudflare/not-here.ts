import { DomainError } from "#core/errors.ts";

/**
 * Stands for a part that only servers have. Whatever is asked of it answers with `service_unavailable`, in words that
 * name the part and the server.
 */
export function notHere<T extends object>(part: string, serveUrl: string): T {
  const refuse = (): never => {
    throw elsewhere(part, serveUrl);
  };
  // A promise is recognized by its `then`.
  return new Proxy({} as T, { get: (_, name) => (name === "then" ? undefined : refuse) });
}

export function elsewhere(part: string, serveUrl: string): DomainError {
  return new DomainError("service_unavailable", `${part} is not available at this address: ask ${serveUrl}`);
}
