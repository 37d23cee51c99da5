/** The version of /proto. Both sides must have the same. `docs/protocol.md` describes it. */
export const PROTOCOL_VERSION = 2;

const KIB = 1024;
const MIB = 1024 * KIB;

/**
 * A control message of a worker, as JSON text. The largest are batches of 500 nodes with 200 bytes a node, and room.
 */
export const CONTROL_MESSAGE_BYTES_MAX: number = 1 * MIB;
/**
 * A control message of a server. The largest is an `assign_job` of 100 000 inputs with 100 bytes an input, and room.
 */
export const SERVER_MESSAGE_BYTES_MAX: number = 16 * MIB;
/**
 * The body of one data frame: small enough that a control message waits at most one of them on a slow line. At 256 KiB
 * the memory of a long transfer peaks 60 MB higher, and it is no quicker.
 */
export const DATA_FRAME_BYTES_MAX: number = 64 * KIB;
/** What a sender may have under way on one stream before the receiver has granted more. */
export const STREAM_WINDOW_BYTES: number = 1 * MIB;
/** Streams that one side may have open at a time. With the window: at most 256 MiB of a connection's data in memory. */
export const STREAMS_OPEN_MAX = 256;
/** Data of a connection that waits to be read, also of streams that their sender has ended since. */
export const UNREAD_BYTES_MAX: number = STREAMS_OPEN_MAX * STREAM_WINDOW_BYTES;
/** Builds that one worker runs at a time: each has a stream for its log, and there is room for the others. */
export const WORKER_BUILDS_MAX = 192;
/**
 * Builds that one group of places may ask for at one time, where it has fewer places: what takes some milliseconds is
 * given out several at a time.
 */
export const BUILDS_ASKED_MAX = 16;
/** Groups of build places that one worker advertises. */
export const WORKER_GROUPS_MAX = 64;
/** Organizations that one group of places is for. */
export const WORKER_ORGANIZATIONS_MAX = 256;
/** Keys that uploads of one session are signed with: a relay passes on what several workers have signed. */
export const WORKER_SIGNING_KEYS_MAX = 64;
/** Bodies that a worker sends at a time, beside logs. */
export const WORKER_UPLOADS_MAX = 32;
/** Control messages that may wait for the socket. A peer that lets more pile up has stalled. */
export const CONTROL_QUEUE_MAX = 4096;
/** All of them together, in characters: eight of the largest that a server sends. */
export const CONTROL_QUEUE_LENGTH_MAX: number = 8 * SERVER_MESSAGE_BYTES_MAX;
/** Messages of a peer that have arrived and are not dealt with yet: questions, reports, requests for NARs. */
export const WAITING_MESSAGES_MAX = 4096;
/** All of them together, in characters. */
export const WAITING_LENGTH_MAX: number = 64 * MIB;
/** Data frames that may wait for the socket: 1 MiB. */
export const BULK_QUEUE_MAX = 16;
/** Inputs of a flake that are told. */
export const LOCKED_INPUTS_MAX = 200;
/** Paths or derivations that one query names. */
export const QUERY_PATHS_MAX = 1000;
/** The whole handshake. */
export const HANDSHAKE_TIMEOUT_MS = 15_000;
/** A worker proves itself anew at most this often in a session: each token costs tens of milliseconds of a core. */
export const RENEWAL_INTERVAL_MS = 1_000;
/** How long one frame may wait for the socket to take it before the peer counts as stalled. */
export const SEND_TIMEOUT_MS = 30_000;
/** How often each side sends a sign of life. */
export const HEARTBEAT_INTERVAL_MS = 10_000;
/** The largest derivation that travels. */
export const DERIVATION_BYTES_MAX: number = 64 * MIB;
/** The records of one `eval_batch` together. */
export const EVAL_BATCH_BYTES_MAX: number = 80 * MIB;
export const EVAL_BATCH_NODES_MAX = 1000;
/** How long a builder may say that it ran: a year. */
export const BUILD_MS_MAX: number = 365 * 24 * 60 * 60 * 1000;
/** Files and folders that one build offers for download. */
export const PRODUCTS_MAX = 256;
/** A store path and names below it. */
export const PRODUCT_PATH_LENGTH_MAX = 1024;
/** Signatures of others that come with one path. */
export const SIGNATURES_MAX = 8;
