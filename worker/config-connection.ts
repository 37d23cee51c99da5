import type { ConfigReader } from "./config-reader.ts";
import type { PeersSource } from "./peers.ts";

/** How the worker and its server find each other. */
export interface ConnectionSettings {
  /** With its path: `wss://gradient.example.com/proto`. Null: the worker dials nobody, and waits to be dialled. */
  readonly serverUrl: string | null;
  readonly peers: PeersSource;
  /** Where servers dial this worker. Null: nowhere. */
  readonly listen: ListenSettings | null;
}

export interface ListenSettings {
  readonly address: string;
  readonly port: number;
  readonly connectionsMax: number;
}

const SERVER_URL = "GRADIENT_WORKER_SERVER_URL";

export function readConnectionSettings(reader: ConfigReader): ConnectionSettings {
  const listen = readListen(reader);
  return {
    serverUrl: readServerUrl(reader, { required: listen === null }),
    peers: { file: reader.text("GRADIENT_WORKER_PEERS_FILE"), text: reader.text("GRADIENT_WORKER_PEERS") },
    listen,
  };
}

function readListen(reader: ConfigReader): ListenSettings | null {
  const address = reader.text("GRADIENT_WORKER_LISTEN_ADDR") ?? "127.0.0.1";
  if (!/^[0-9A-Fa-f:.%a-z-]{1,64}$/.test(address)) {
    reader.wrong("GRADIENT_WORKER_LISTEN_ADDR", "must be an IP address such as 127.0.0.1 or ::", null);
  }
  const listen = {
    address,
    port: reader.integer("GRADIENT_WORKER_PORT", 3_100, { min: 0, max: 65_535 }),
    connectionsMax: reader.integer("GRADIENT_MAX_PROTO_CONNECTIONS", 16, { min: 1, max: 100_000 }),
  };
  return reader.boolean("GRADIENT_WORKER_DISCOVERABLE", false) ? listen : null;
}

function readServerUrl(reader: ConfigReader, { required }: { readonly required: boolean }): string | null {
  const text = reader.text(SERVER_URL);
  if (text === null) {
    if (required) {
      reader.problems.push(
        `${SERVER_URL} is required: the server's address, such as wss://gradient.example.com/proto ` +
          "(a worker that the server dials, with GRADIENT_WORKER_DISCOVERABLE=true, needs none)",
      );
    }
    return null;
  }
  const url = URL.canParse(text) ? new URL(text) : null;
  if (!url || !/^(?:ws|http)s?:$/.test(url.protocol) || url.username || url.search || url.hash) {
    return reader.wrong(SERVER_URL, "must be an address such as wss://gradient.example.com/proto", null);
  }
  if (url.pathname === "/") url.pathname = "/proto";
  return url.href.replace(/^http/, "ws");
}
