import type { BuildDefaults } from "#core/domain/build-limits.ts";
import type { Socket } from "#core/protocol/socket.ts";
import type { CommitDeps } from "#core/services/cache-commit.ts";
import type { NarOpenDeps } from "#core/services/nar-open.ts";
import type { NarReceiveDeps } from "#core/services/nar-receive.ts";
import type { SshKeyOf } from "#core/services/organization-key.ts";
import type { ServerDeps } from "#core/services/transitions/servers.ts";
import type { UpstreamOpenDeps } from "#core/services/upstream-open.ts";
import type { WorkerAuthDeps } from "#core/services/worker-auth.ts";

/** What the hub and its sessions work with. */
export interface HubDeps extends ServerDeps, WorkerAuthDeps, NarReceiveDeps, NarOpenDeps, CommitDeps, UpstreamOpenDeps {
  /** Private keys for repositories that are fetched over ssh. */
  readonly sshKeyOf: SshKeyOf;
  readonly limits: HubLimits;
  /** Opens a connection to a worker that listens. Absent: this server dials no workers. */
  readonly dialWorker?: (url: string, signal: AbortSignal) => Promise<Socket>;
}

/** Each is an option of the same name. */
export interface HubLimits {
  readonly discoverable: boolean;
  readonly maxProtoConnections: number;
  readonly maxConcurrentNarServes: number;
  readonly narStorageOpenTimeoutMs: number;
  /** One piece of a NAR that a worker does not take for this long ends its transfer. */
  readonly narSendChunkTimeoutMs: number;
  /** Bytes of uploads of one session that have arrived and are not stored yet. */
  readonly maxNarBufferBytes: number;
  /** How often what workers measure is recorded. */
  readonly workerSampleIntervalMs: number;
  /** A worker that was silent for this long is gone. */
  readonly workerHeartbeatTimeoutMs: number;
  readonly build: BuildDefaults;
  readonly evaluation: {
    readonly timeoutMs: number;
    readonly attributesMax: number;
    readonly derivationsMax: number;
    /** Warnings and notices; errors are always recorded. */
    readonly messagesMax: number;
  };
}
