import type { ConfigReader } from "./config-reader.ts";
import type { PeersSource } from "./peers.ts";

/** How the worker and its server find each other. */
export interface ConnectionSettings {
  /** With its path: `wss://gradient.example.com/proto`. Null: the worker dials nobody, and waits to be dialled. */
  readonly serverUrl: string | null;
  readonly peers: PeersSource;
  /** Where servers dial this worker. Null: nowhere. */
  readonly listen: ListenSettings | null;
  /** What a relay takes workers by. Null: this worker is none, and works itself. */
  readonly federation: FederationSettings | null;
}

export interface FederationSettings extends ListenSettings {
  /** The workers that may connect, with their tokens. */
  readonly downstreamsFile: string;
}

export interface ListenSettings {
  readonly address: string;
  readonly port: number;
  readonly connectionsMax: number;
}

const SERVER_URL = "GRADIENT_WORKER_SERVER_URL";
const FEDERATE = "GRADIENT_WORKER_CAPABILITY_FEDERATE";
const DOWNSTREAMS_FILE = "GRADIENT_WORKER_DOWNSTREAMS_FILE";

export function readConnectionSettings(reader: ConfigReader): ConnectionSettings {
  const address = readListen(reader);
  const federate = reader.boolean(FEDERATE, false);
  // The address of a relay is for workers; it dials its server itself.
  const listen = federate ? null : address;
  return {
    serverUrl: readServerUrl(reader, { required: listen === null }),
    peers: { file: reader.text("GRADIENT_WORKER_PEERS_FILE"), text: reader.text("GRADIENT_WORKER_PEERS") },
    listen,
    federation: federate ? readFederation(reader, address) : null,
  };
}

function readFederation(reader: ConfigReader, listen: ListenSettings | null): FederationSettings | null {
  if (listen === null) {
    reader.problems.push(`${FEDERATE}=true needs GRADIENT_WORKER_DISCOVERABLE=true: a relay listens for its workers`);
  }
  const downstreamsFile = reader.text(DOWNSTREAMS_FILE);
  if (downstreamsFile === null) {
    reader.problems.push(
      `${FEDERATE}=true needs ${DOWNSTREAMS_FILE}: a file with a line worker_id:organization_id:token for each ` +
        "worker that may connect to this relay",
    );
  }
  return listen && downstreamsFile !== null ? { ...listen, downstreamsFile } : null;
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
